"""Hands an event to the spool, or to the agent's address if one is set; the one door that all of the package uses."""

import os

from . import _encode, _http, _spool

_spool_of = {}
_senders = {}


def spool(folder=None):
    """The spool of this process for a folder."""
    if folder not in _spool_of:
        _spool_of[folder] = _spool.Spool(folder)
    return _spool_of[folder]


def emit(event, folder=None):
    """Records an event (a dict with the names of Weir's documentation). True if it is on its way; never raises.

    An `id` and a `timestamp` are added where they are missing. With WEIR_URL set the event is sent from a thread in the
    background, and spooled where that fails; otherwise it is in a file when this returns.
    """
    try:
        stamped = {"id": _encode.new_id(), "timestamp": _encode.timestamp()}
        stamped.update(event)
        store = spool(folder)
        if store.dropped:
            _say_dropped(store)
        line = _encode.encode(stamped)
        if line is None:
            store.dropped += 1
            return False
        url = os.environ.get("WEIR_URL")
        if url and folder is None:
            if url not in _senders:
                _senders[url] = _http.Sender(url, store)
            return _senders[url].put(line)
        return store.write(line)
    except Exception:
        return False


def _say_dropped(store):
    """One event says how many are missing."""
    dropped, store.dropped = store.dropped, 0
    line = _encode.encode(
        {
            "id": _encode.new_id(),
            "timestamp": _encode.timestamp(),
            "event_type": "events_dropped",
            "status": "warning",
            "description": f"{dropped} events could not be written and are missing",
            "metadata": {"dropped": dropped, "pid": os.getpid()},
        }
    )
    before = store.dropped
    store.write(line)
    if store.dropped > before:
        # It could not be said either; the next event tries again.
        store.dropped = before + dropped


def flush(timeout=2.0):
    """Waits until the background has sent or spooled what it holds. Nothing to wait for without WEIR_URL."""
    try:
        return all([sender.flush(timeout) for sender in list(_senders.values())])
    except Exception:
        return False
