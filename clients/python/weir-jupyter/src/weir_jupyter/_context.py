"""What is the same for all events of one process: who, where, and in which notebook."""

import getpass
import os
import socket


def user(environ=os.environ):
    """The name that the process claims; Weir keeps it apart from what it knows by itself."""
    name = environ.get("JUPYTERHUB_USER")
    if name:
        return name
    try:
        return getpass.getuser()
    except Exception:
        return None


def host():
    try:
        return socket.gethostname()
    except OSError:
        return None


def announcement(environ=os.environ):
    """The message for the user, or None."""
    message = environ.get("WEIR_JUPYTER_MESSAGE")
    if not message:
        return None
    return message.replace("{user}", user(environ) or "")


def without_none(event):
    return {name: value for name, value in event.items() if value is not None}
