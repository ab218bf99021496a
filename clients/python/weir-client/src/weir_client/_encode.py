"""Turns an event into one line of JSON that the agent takes, whatever the application put into it."""

import json
import math
import os
import time
from datetime import datetime, timezone

# The agent refuses an event of more than 1 MiB; redaction and stamps may add to a line on its way.
MAX_LINE_BYTES = 768 * 1024

# Texts longer than this are cut before they are encoded, so that a huge cell costs what a large one does.
MAX_TEXT_CHARS = 256 * 1024

# What the cleaning of a value that JSON cannot express looks at.
MAX_DEPTH = 16
MAX_ITEMS = 1000
MAX_REPR_CHARS = 1000


# The second of the last timestamp, and its text: a thread that finds another second makes its own.
_last_second = (0, "1970-01-01T00:00:00")


def new_id(now_ns=None):
    """A UUIDv7: the same event that arrives twice is known as one."""
    milliseconds = (time.time_ns() if now_ns is None else now_ns) // 1_000_000
    at = f"{milliseconds & ((1 << 48) - 1):012x}"
    # 3 digits, one whose upper two bits are fixed, and 15 digits more.
    random = os.urandom(10).hex()
    variant = "89ab"[int(random[3], 16) & 3]
    return f"{at[:8]}-{at[8:]}-7{random[:3]}-{variant}{random[4:7]}-{random[7:19]}"


def timestamp(now_ns=None):
    """RFC 3339 in UTC, to the microsecond."""
    global _last_second
    now_ns = time.time_ns() if now_ns is None else now_ns
    # Through whole numbers: a float has no room for microseconds.
    seconds, nanos = divmod(now_ns, 1_000_000_000)
    second, text = _last_second
    if second != seconds:
        text = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
        _last_second = (seconds, text)
    return f"{text}.{nanos // 1000:06d}Z"


def encode(event):
    """The event as one line of at most `MAX_LINE_BYTES`, or None if that cannot be done."""
    event = _shorten(event)
    line = _line(event)
    if line is None or len(line) > MAX_LINE_BYTES:
        line = _line(_fit(_clean(event, 0)))
    return line if line is not None and len(line) <= MAX_LINE_BYTES else None


def cut(text, most):
    """The beginning of a text."""
    return text if len(text) <= most else text[:most]


def _line(event):
    try:
        # A lone surrogate is no text; it becomes a question mark.
        return (_ENCODER.encode(event) + "\n").encode("utf-8", "replace")
    except Exception:
        return None


def _shorten(event):
    """Cuts long texts of the event's own members and says how long they were."""
    long = [name for name, value in event.items() if isinstance(value, str) and len(value) > MAX_TEXT_CHARS]
    if not long:
        return event
    event = dict(event)
    for name in long:
        _cut_member(event, name, MAX_TEXT_CHARS)
    return event


def _cut_member(event, name, most):
    truncated = event.get("truncated")
    truncated = dict(truncated) if isinstance(truncated, dict) else {}
    if name not in truncated:
        # The length alone: a hash would be of the text before redaction, from which a short secret can be guessed.
        truncated[name] = {"bytes": len(event[name].encode("utf-8", "replace"))}
    event["truncated"] = truncated
    event[name] = event[name][:most]


def _fit(event):
    """Halves the longest texts until the line fits; as the last means metadata goes."""
    if not isinstance(event, dict):
        return event
    for _ in range(64):
        line = _line(event)
        if line is None or len(line) <= MAX_LINE_BYTES:
            return event
        texts = [(len(value), name) for name, value in event.items() if isinstance(value, str) and len(value) > 1000]
        metadata = event.get("metadata")
        size = len(_line(metadata) or b"") if metadata is not None else 0
        if size > MAX_LINE_BYTES // 4 or not texts:
            event["metadata"] = {"dropped_bytes": size}
        if texts:
            length, name = max(texts)
            _cut_member(event, name, length // 2)
        elif size == 0:
            return event
    return event


def _as_text(value):
    """What JSON does not know, as a person would write it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return list(value)[:MAX_ITEMS]
    if isinstance(value, (bytes, bytearray)):
        return bytes(value[:MAX_REPR_CHARS]).decode("utf-8", "replace")
    try:
        return str(value)[:MAX_REPR_CHARS]
    except Exception:
        return f"<{type(value).__name__}>"


# Made once: `json.dumps` makes one for every call that asks for anything special.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_text)


def _clean(value, depth):
    """The same value without what JSON refuses: numbers that are none, odd keys, cycles and bottomless nesting."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= MAX_DEPTH:
        return _as_text(type(value).__name__)
    if isinstance(value, dict):
        pairs = list(value.items())[:MAX_ITEMS]
        return {key if isinstance(key, str) else _as_text(key): _clean(item, depth + 1) for key, item in pairs}
    if isinstance(value, (list, tuple)):
        return [_clean(item, depth + 1) for item in value[:MAX_ITEMS]]
    return _as_text(value)
