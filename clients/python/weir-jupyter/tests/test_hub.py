"""A real JupyterHub with a dummy authenticator: the cells of its users, through its proxy, under their own names."""

import json
import os
import subprocess
import sys
import unittest
import urllib.request
import uuid

from support import Folder, by_code, eventually, free_ports
from websockets.sync.client import connect

TOKEN = "t" * 40
USERS = ["sara", "علی"]

CONFIGURATION = """
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{ports[0]}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{ports[1]}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{ports[2]}"
c.ConfigurableHTTPProxy.command = ["{bin}/configurable-http-proxy"]
c.JupyterHub.db_url = "sqlite:///{home}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{home}/cookie"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{home}/{{username}}"
c.Spawner.cmd = ["{bin}/jupyterhub-singleuser"]
c.Spawner.args = ["--allow-root"]
c.Spawner.start_timeout = 120
c.Spawner.http_timeout = 120
c.Spawner.environment = {{
    "JUPYTERHUB_SINGLEUSER_APP": "jupyter_server.serverapp.ServerApp",
    "IPYTHONDIR": "{home}/ipython",
    "WEIR_SPOOL_DIR": "{home}/spool",
    "WEIR_SERVER_SPOOL_DIR": "{home}/seen",
}}
c.JupyterHub.services = [{{"name": "test", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [
    {{"name": "test", "services": ["test"], "scopes": ["admin:users", "admin:servers", "access:servers"]}}
]
"""


class Hub:
    def __init__(self, home):
        self.home = home
        ports = free_ports(3)
        self.port = ports[0]
        ipython = os.path.join(home, "ipython", "profile_default")
        os.makedirs(ipython)
        with open(os.path.join(ipython, "ipython_config.py"), "w", encoding="utf-8") as file:
            file.write('c = get_config()\nc.InteractiveShellApp.extensions = ["weir_jupyter"]\n')
        path = os.path.join(home, "jupyterhub_config.py")
        programs = os.path.dirname(sys.executable)
        with open(path, "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(ports=ports, bin=programs, home=home, token=TOKEN))
        self.log = open(os.path.join(home, "log"), "w+", encoding="utf-8")
        command = [os.path.join(programs, "jupyterhub"), "-f", path]
        self.process = subprocess.Popen(command, cwd=home, stdout=self.log, stderr=self.log)
        eventually("the hub answers", self._answers)

    def _answers(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise AssertionError(self.log.read())
        try:
            return self.ask("GET", "/hub/api/")
        except OSError:
            return None

    def ask(self, method, path, body=None):
        address = f"http://127.0.0.1:{self.port}{urllib.request.quote(path)}"
        request = urllib.request.Request(address, method=method)
        request.add_header("Authorization", f"token {TOKEN}")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=150) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def run(self, user, code):
        """Runs a cell of a user as the page of a notebook does; the id of its message and the reply's status."""
        kernel = self.ask("POST", f"/user/{user}/api/kernels", {"name": "python3"})["id"]
        path = urllib.request.quote(f"/user/{user}/api/kernels/{kernel}/channels")
        address = f"ws://127.0.0.1:{self.port}{path}"
        headers = {"Authorization": f"token {TOKEN}"}
        with connect(address, additional_headers=headers, proxy=None, open_timeout=60) as channels:
            message = uuid.uuid4().hex
            header = {"msg_id": message, "msg_type": "execute_request", "username": user, "session": uuid.uuid4().hex}
            header.update(version="5.3", date="2026-01-01T00:00:00Z")
            content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
            content.update(allow_stdin=False, stop_on_error=True)
            request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
            channels.send(json.dumps(request))
            while True:
                answer = json.loads(channels.recv(timeout=60))
                if answer["msg_type"] == "execute_reply" and answer["parent_header"].get("msg_id") == message:
                    return message, answer["content"]["status"]

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.log.close()


class Hubs(unittest.TestCase):
    def test_cells_of_two_users_are_recorded_by_kernel_and_server_under_their_names(self):
        with Folder() as home:
            hub = Hub(home)
            try:
                ran = {}
                for user in USERS:
                    hub.ask("POST", f"/hub/api/users/{user}")
                    hub.ask("POST", f"/hub/api/users/{user}/server")
                    eventually("its server runs", lambda: hub.ask("GET", f"/hub/api/users/{user}").get("server"))
                    for code, status in ((f"x = 'of {user}'", "ok"), (f"1 / 0  # by {user}", "error")):
                        message, said = hub.run(user, code)
                        self.assertEqual(said, status)
                        ran[message] = (user, code, status)
                for message, (user, code, status) in ran.items():
                    spool, seen = os.path.join(home, "spool"), os.path.join(home, "seen")
                    (cell,) = by_code(spool, code)
                    self.assertEqual(set(cell), {"cell.start", "cell.finish"})
                    finish = cell["cell.finish"]
                    self.assertEqual((finish["operation_id"], finish["user_id"]), (message, user))
                    self.assertEqual(finish["status"], {"ok": "success", "error": "error"}[status])
                    eventually("the server has seen it", lambda: by_code(seen, code))
                    ((event,),) = [cell.values() for cell in by_code(seen, code)]
                    self.assertEqual((event["event_type"], event["operation_id"]), ("cell.seen", message))
                    self.assertEqual(event["user_id"], user)
            finally:
                hub.stop()


if __name__ == "__main__":
    unittest.main()
