"""An application whose bus has its console somewhere deep below."""

from fastapi import FastAPI

from kps.asgi import Bus

bus = Bus()
app = FastAPI(lifespan=bus.lifespan)
app.mount("/deep/bus", bus)
