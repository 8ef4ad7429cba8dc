"""Which build of the core is imported: the sources themselves, or what mypyc has made of them."""

from typing import Final

BUILD: Final = "pure" if __file__.endswith((".py", ".pyc")) else "compiled"
"""``pure`` or ``compiled``. They behave alike; the compiled one is faster."""
