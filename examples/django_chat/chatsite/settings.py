"""The settings of the project, no more than it needs."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent

DEBUG = True
SECRET_KEY = "only for an example"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
INSTALLED_APPS = [
    "daphne",
    "channels",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("CHAT_DATABASE", FOLDER.parent / "db.sqlite3"),
    }
}
LOGIN_REDIRECT_URL = "/"
ROOT_URLCONF = "chatsite.urls"
ASGI_APPLICATION = "chatsite.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [FOLDER / "templates"],
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "kps.channels.KpsChannelLayer",
        "CONFIG": {"address": os.environ.get("KPS_ADDRESS", "localhost:9313")},
    }
}
