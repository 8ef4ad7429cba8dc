"""The settings of the example, and a log that tells the port on which Daphne listens."""

from chatsite.settings import *  # noqa: F403

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"all": {"class": "logging.StreamHandler"}},
    "loggers": {"daphne.server": {"handlers": ["all"], "level": "INFO"}},
}
