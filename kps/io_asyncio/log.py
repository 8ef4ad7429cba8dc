"""Writes lines of the log. On threads this differs."""

from kps.io_common.logger import write as write
