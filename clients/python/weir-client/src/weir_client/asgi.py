"""ASGI middleware: one event for each HTTP request, with its outcome and duration."""

import time

from ._emit import emit
from ._request import trace_id
from .activity import _ABORTED, failure


class WeirMiddleware:
    """Records the requests of a Starlette, FastAPI, Django or other ASGI application.

    `identify(scope)` returns further members of the event, such as `{"user_id": ..., "is_admin": ...}`; it is asked
    after the request, when authentication has done its work. `event_type` is a text, or a function of the scope.
    Requests whose path is in `exclude` are not recorded.
    """

    def __init__(self, app, identify=None, event_type="http_request", exclude=()):
        self._app = app
        self._identify = identify
        self._event_type = event_type
        self._exclude = frozenset(exclude)

    async def __call__(self, scope, receive, send):
        if scope.get("type") != "http" or scope.get("path") in self._exclude:
            return await self._app(scope, receive, send)
        started = time.perf_counter()
        answer = {"status": None}

        async def watch(message):
            if message.get("type") == "http.response.start":
                answer["status"] = message.get("status")
            await send(message)

        error = None
        try:
            await self._app(scope, receive, watch)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._record(scope, answer["status"], time.perf_counter() - started, error)

    def _record(self, scope, status_code, seconds, error):
        try:
            headers = {}
            for name, value in scope.get("headers") or ():
                headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
            client = scope.get("client")
            event = {
                "event_type": self._event_type(scope) if callable(self._event_type) else self._event_type,
                "endpoint": scope.get("path"),
                "http_method": scope.get("method"),
                "duration_ms": round(seconds * 1000, 3),
                "ip_address": client[0] if client else None,
                "user_agent": headers.get("user-agent"),
                "trace_id": trace_id(headers.get("traceparent")),
            }
            event.update(outcome(status_code, error))
            if self._identify is not None:
                event.update(self._identify(scope) or {})
            emit({name: value for name, value in event.items() if value is not None})
        except Exception:
            pass


def outcome(status_code, error):
    """Status, status code and error of a request."""
    if error is not None and type(error).__name__ in _ABORTED:
        # The client went away, or the server stops.
        return {"status": "aborted", "status_code": status_code}
    if error is not None:
        return {"status": "error", "status_code": status_code or 500, **failure(error)}
    if status_code is None:
        return {"status": "error"}
    return {"status": "error" if status_code >= 400 else "success", "status_code": status_code}
