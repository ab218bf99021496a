"""Records notebook cells for Weir: `%load_ext weir_jupyter` in a kernel, and an extension of the Jupyter server."""

__version__ = "0.1.0"


def load_ipython_extension(ipython):
    """`%load_ext weir_jupyter`, or `c.InteractiveShellApp.extensions = ["weir_jupyter"]`."""
    from .kernel import load

    load(ipython)


def unload_ipython_extension(ipython):
    """`%unload_ext weir_jupyter`."""
    from .kernel import unload

    unload(ipython)


def _jupyter_server_extension_points():
    return [{"module": "weir_jupyter"}]


def _load_jupyter_server_extension(server):
    from .server import load

    load(server)


# The name that older servers look for.
load_jupyter_server_extension = _load_jupyter_server_extension
