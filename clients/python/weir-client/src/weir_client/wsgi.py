"""WSGI middleware: one event for each request, recorded when its body has been sent."""

import time

from ._emit import emit
from ._request import trace_id
from .asgi import outcome


class WeirWsgiMiddleware:
    """Records the requests of a Flask, Django or other WSGI application. Arguments as for `WeirMiddleware`;
    `identify` and `event_type` are given the environ."""

    def __init__(self, app, identify=None, event_type="http_request", exclude=()):
        self._app = app
        self._identify = identify
        self._event_type = event_type
        self._exclude = frozenset(exclude)

    def __call__(self, environ, start_response):
        if environ.get("PATH_INFO") in self._exclude:
            return self._app(environ, start_response)
        request = _Request(self, environ)

        def watch(status, headers, exc_info=None):
            request.status_code = _code(status)
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        try:
            body = self._app(environ, watch)
        except BaseException as error:
            request.record(error)
            raise
        return _Body(body, request)

    def _record(self, environ, status_code, seconds, error):
        try:
            event = {
                "event_type": self._event_type(environ) if callable(self._event_type) else self._event_type,
                # WSGI hands the bytes of a path over as Latin-1.
                "endpoint": environ.get("PATH_INFO", "").encode("latin-1", "replace").decode("utf-8", "replace"),
                "http_method": environ.get("REQUEST_METHOD"),
                "duration_ms": round(seconds * 1000, 3),
                "ip_address": environ.get("REMOTE_ADDR") or None,
                "user_agent": environ.get("HTTP_USER_AGENT"),
                "trace_id": trace_id(environ.get("HTTP_TRACEPARENT")),
            }
            event.update(outcome(status_code, error))
            if self._identify is not None:
                event.update(self._identify(environ) or {})
            emit({name: value for name, value in event.items() if value is not None})
        except Exception:
            pass


class _Request:
    def __init__(self, middleware, environ):
        self._middleware = middleware
        self._environ = environ
        self._started = time.perf_counter()
        self._is_recorded = False
        self.status_code = None

    def record(self, error=None):
        if not self._is_recorded:
            self._is_recorded = True
            self._middleware._record(self._environ, self.status_code, time.perf_counter() - self._started, error)


class _Body:
    """The application's body, which says when it has ended."""

    def __init__(self, body, request):
        self._body = body
        self._iterator = iter(body)
        self._request = request

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self._iterator)
        except StopIteration:
            self._request.record()
            raise
        except BaseException as error:
            self._request.record(error)
            raise

    def close(self):
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._request.record()


def _code(status):
    try:
        return int(str(status).split(" ", 1)[0])
    except ValueError:
        return None
