"""Activities and operations in the words that applications use: what was done, by whom, with what outcome."""

import contextvars
import functools
import inspect
import time
import traceback
import uuid

from ._emit import emit
from ._encode import cut, new_id
from ._request import describe

MAX_MESSAGE_CHARS = 10_000
MAX_TRACE_CHARS = 64 * 1024

_ABORTED = ("KeyboardInterrupt", "SystemExit", "GeneratorExit", "CancelledError")


def failure(error):
    """The members that describe an error: an exception or a text. Never raises, whatever its `__str__` does."""
    if error is None:
        return {}
    if not isinstance(error, BaseException):
        return {"error_message": cut(str(error), MAX_MESSAGE_CHARS)}
    try:
        message = cut(str(error), MAX_MESSAGE_CHARS)
    except Exception:
        message = "(the error cannot be shown as text)"
    try:
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        trace = ""
    return {"error_type": type(error).__name__, "error_message": message, "error_trace": trace[-MAX_TRACE_CHARS:]}


class Operation:
    """Something that takes time: an event when it starts, and one when it ends.

    Use it as a context manager, with `with` or `async with`, or as a decorator of a function or a coroutine function.
    """

    def __init__(self, logger, name, details=None):
        self._logger = logger
        self.name = name
        self.details = details
        self.id = None
        self.is_open = False

    def start(self):
        logger = self._logger
        self.id = new_id()
        self.is_open = True
        self._started = time.perf_counter()
        outer = logger._innermost()
        logger._push(self)
        event = {"event_type": self.name, "status": "in_progress", "operation_id": self.id, **logger._who()}
        metadata = _metadata(self.details)
        if outer is not None:
            metadata["parent_operation_id"] = outer.id
            self._parent = outer.id
        else:
            self._parent = None
        logger._emit(event, metadata)
        return self

    def complete(self, success=True, error=None, details=None, status=None):
        """Ends it; a second end is ignored."""
        if not self.is_open:
            return False
        self.is_open = False
        duration = (time.perf_counter() - self._started) * 1000
        event = {
            "event_type": self.name,
            "status": status or ("success" if success else "error"),
            "operation_id": self.id,
            "duration_ms": round(duration, 3),
            **self._logger._who(),
            **failure(error),
        }
        metadata = _metadata(self.details)
        metadata.update(_metadata(details))
        if self._parent is not None:
            metadata["parent_operation_id"] = self._parent
        self._logger._emit(event, metadata)
        return True

    def _end(self, error):
        if error is None:
            self.complete(True)
        else:
            status = "aborted" if type(error).__name__ in _ABORTED else None
            self.complete(False, error, status=status)

    def __str__(self):
        return self.id or self.name

    def __enter__(self):
        return self if self.is_open else self.start()

    def __exit__(self, kind, error, trace):
        self._end(error)
        return False

    async def __aenter__(self):
        return self.__enter__()

    async def __aexit__(self, kind, error, trace):
        return self.__exit__(kind, error, trace)

    def __call__(self, function):
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*args, **kwargs):
                with Operation(self._logger, self.name, self.details):
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                with Operation(self._logger, self.name, self.details):
                    return function(*args, **kwargs)

        return wrapper


class ActivityLogger:
    """Records the activities of one session.

    Operations that are open belong to the task or thread that started them: `complete_operation` ends the innermost.
    As a context manager it ends at its own end what is still open: with the error that was raised, else as aborted.
    """

    def __init__(self, session_id=None, user_id=None, **always):
        self.session_id = session_id or str(uuid.uuid4())
        self.user_id = user_id
        self._always = always
        self._open = contextvars.ContextVar("weir_open_operations", default=())

    def start_operation(self, name, details=None):
        """Starts an operation. Returns it; `with logger.start_operation(...)` ends it by itself."""
        return Operation(self, name, details).start()

    def complete_operation(self, success=True, error=None, details=None):
        """Ends the innermost open operation of this task. False if there is none."""
        operation = self._innermost()
        return operation is not None and operation.complete(success, error, details)

    def operation(self, name, details=None):
        """An operation that starts with `with`, or with each call of the function that it decorates."""
        if callable(name):
            return Operation(self, name.__name__)(name)
        return Operation(self, name, details)

    __call__ = operation

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        while True:
            operation = self._innermost()
            if operation is None:
                return False
            if error is None:
                operation.complete(False, status="aborted")
            else:
                operation._end(error)

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, trace):
        return self.__exit__(kind, error, trace)

    def log_s3_operation(self, name, success=True, details=None, error=None):
        """One finished operation on S3; `export` is recorded as `s3_export`."""
        name = str(name)
        event = {
            "event_type": name if name.startswith("s3_") else f"s3_{name}",
            "status": "success" if success else "error",
            **self._who(),
            **failure(error),
        }
        metadata = _metadata(details)
        duration = metadata.pop("duration_ms", None)
        if duration is not None:
            event["duration_ms"] = duration
        return self._emit(event, metadata)

    def add_activity(self, action, entity_type=None, entity_id=None, user=None, details=None, metadata=None):
        """One thing that was done."""
        event = _activity(action, entity_type, entity_id, user, details, metadata)
        return emit({**self._who(), **event})

    def log_activity(self, *args, **keywords):
        """As the function `log_activity`, within this session."""
        return _log({**self._who(), **_read(args, keywords)})

    def _who(self):
        who = {"session_id": self.session_id, **self._always}
        if self.user_id is not None:
            who["user_id"] = self.user_id
        return who

    def _innermost(self):
        return next((operation for operation in reversed(self._open.get()) if operation.is_open), None)

    def _push(self, operation):
        # A new tuple: tasks that were started before keep what they have.
        self._open.set(tuple(other for other in self._open.get() if other.is_open) + (operation,))

    @staticmethod
    def _emit(event, metadata):
        if metadata:
            event["metadata"] = metadata
        return emit(event)


def add_activity(action, entity_type=None, entity_id=None, user=None, details=None, metadata=None):
    """Records one thing that was done. `details` is a sentence or a dict."""
    return emit(_activity(action, entity_type, entity_id, user, details, metadata))


class Logged:
    """What `log_activity` returns: it may be awaited, and nothing happens if it is not."""

    def __init__(self, is_recorded):
        self.is_recorded = is_recorded

    def __await__(self):
        return self
        yield  # makes it a generator, which ends at once

    def __bool__(self):
        return self.is_recorded


def log_activity(*args, **keywords):
    """Records an activity; call it, or await it.

    Keywords: request, user_id, action_type (or event_type), success, status_code, endpoint, http_method, duration_ms,
    error_message, error_type, target_user_id, target_resource_id (or entity_id), resource_type (or entity_type), details,
    description, is_admin, metadata, ip_address, user_agent, session_id, trace_id, db_query_count. A first positional
    argument that is a text is `event_type`, followed by entity_type, entity_id, user_id and description; any other is
    `request`, followed by user_id and action_type.
    """
    try:
        return _log(_read(args, keywords))
    except Exception:
        return Logged(False)


_WITH_REQUEST = ("request", "user_id", "action_type", "success", "status_code")
_WITH_EVENT = ("event_type", "entity_type", "entity_id", "user_id", "description", "metadata")


def _read(args, keywords):
    names = _WITH_EVENT if args and isinstance(args[0], str) else _WITH_REQUEST
    given = dict(zip(names, args))
    given.update(keywords)
    event = describe(given.pop("request", None))
    event.update({name: value for name, value in given.items() if value is not None})
    return event


def _log(event):
    event = dict(event)
    for name, canonical in (
        ("action_type", "event_type"),
        ("action", "event_type"),
        ("resource_type", "entity_type"),
        ("target_resource_id", "entity_id"),
        ("method", "http_method"),
        ("error", "error_message"),
    ):
        value = event.pop(name, None)
        if value is not None:
            event.setdefault(canonical, value)
    success = event.pop("success", None)
    if success is not None:
        event.setdefault("status", "success" if success else "error")
    details = event.pop("details", None)
    metadata = _metadata(event.pop("metadata", None))
    if isinstance(details, str):
        event.setdefault("description", details)
    else:
        metadata.update(_metadata(details))
    if isinstance(event.get("error_message"), BaseException):
        event.update(failure(event.pop("error_message")))
    if metadata:
        event["metadata"] = metadata
    return Logged(emit(event))


def _activity(action, entity_type, entity_id, user, details, metadata):
    event = {"event_type": action}
    for name, value in (("entity_type", entity_type), ("user_id", user)):
        if value is not None:
            event[name] = value
    if entity_id is not None:
        event["entity_id"] = str(entity_id)
    merged = _metadata(metadata)
    if isinstance(details, str):
        event["description"] = details
    else:
        merged.update(_metadata(details))
    if merged:
        event["metadata"] = merged
    return event


def _metadata(details):
    """A dict of one's own; anything else becomes its member `details`."""
    if details is None:
        return {}
    return dict(details) if isinstance(details, dict) else {"details": details}
