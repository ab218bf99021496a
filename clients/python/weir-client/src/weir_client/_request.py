"""Reads what an event needs from the request objects of Starlette, FastAPI, Flask and Django."""

# The parts of a traceparent header: version, trace id, parent id, flags.
_TRACEPARENT_PARTS = 4


def trace_id(traceparent):
    """The trace id of a W3C traceparent header, or None."""
    parts = (traceparent or "").split("-")
    if len(parts) < _TRACEPARENT_PARTS or len(parts[1]) != 32 or parts[1] == "0" * 32:
        return None
    return parts[1]


def describe(request):
    """endpoint, http_method, ip_address, user_agent and trace_id, as far as the object tells them.

    The address is the peer's: headers that a proxy may or may not have set are not believed.
    """
    if request is None:
        return {}
    event = {}
    try:
        url = getattr(request, "url", None)
        path = getattr(url, "path", None) or getattr(request, "path", None)
        client = getattr(request, "client", None)
        meta = getattr(request, "META", None) or {}
        headers = getattr(request, "headers", None) or {}
        found = {
            "endpoint": path if isinstance(path, str) else None,
            "http_method": getattr(request, "method", None),
            "ip_address": getattr(client, "host", None)
            or getattr(request, "remote_addr", None)
            or meta.get("REMOTE_ADDR"),
            "user_agent": headers.get("user-agent") or headers.get("User-Agent"),
            "trace_id": trace_id(headers.get("traceparent")),
        }
        event = {name: value for name, value in found.items() if isinstance(value, str) and value}
    except Exception:
        pass
    return event
