"""Records activity for Weir: operations, requests and log records, written to a spool before anything else."""

from ._emit import emit, flush
from ._logging import WeirHandler
from .activity import ActivityLogger, Operation, add_activity, log_activity
from .asgi import WeirMiddleware
from .wsgi import WeirWsgiMiddleware

__all__ = [
    "ActivityLogger",
    "Operation",
    "WeirHandler",
    "WeirMiddleware",
    "WeirWsgiMiddleware",
    "add_activity",
    "emit",
    "flush",
    "log_activity",
]

__version__ = "0.1.0"
