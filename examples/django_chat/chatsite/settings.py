"""The settings of the project, no more than it needs."""

import os
from pathlib import Path

DEBUG = True
SECRET_KEY = "only for an example"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
INSTALLED_APPS = ["daphne", "channels"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "chatsite.urls"
ASGI_APPLICATION = "chatsite.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
    }
]

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "kps.channels.KpsChannelLayer",
        "CONFIG": {"address": os.environ.get("KPS_ADDRESS", "localhost:9313")},
    }
}
