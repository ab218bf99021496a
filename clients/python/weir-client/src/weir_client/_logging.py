"""A `logging.Handler` that records log records as events."""

import logging

from ._emit import emit
from ._encode import timestamp
from .activity import failure

# What every record has; the rest was given as `extra`.
_COMMON = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class WeirHandler(logging.Handler):
    """Records log records: `description`, `status` (warning, error), the error if there is one; the logger's name, the
    level, the place and what was given as `extra` in `metadata`."""

    def __init__(self, level=logging.NOTSET, event_type="log", **always):
        super().__init__(level)
        self._event_type = event_type
        self._always = always

    def emit(self, record):
        try:
            event = {
                "timestamp": timestamp(int(record.created * 1_000_000) * 1000),
                "event_type": self._event_type,
                "description": record.getMessage(),
                **self._always,
            }
            if record.levelno >= logging.ERROR:
                event["status"] = "error"
            elif record.levelno >= logging.WARNING:
                event["status"] = "warning"
            if record.exc_info and record.exc_info[1] is not None:
                event.update(failure(record.exc_info[1]))
            metadata = {name: value for name, value in vars(record).items() if name not in _COMMON}
            metadata.update(logger=record.name, level=record.levelname, file=record.filename, line=record.lineno)
            event["metadata"] = metadata
            emit(event)
        except Exception:
            # A log call never fails because of where its record goes, and prints nothing either.
            pass
