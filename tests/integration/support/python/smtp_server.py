"""A mail server for tests: aiosmtpd with STARTTLS and a login. Prints one JSON line when it listens, and one for each mail.

Arguments: port, certificate, key, a file whose text is answered to RCPT while it is not empty.
"""

import json
import pathlib
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


def say(**line):
    print(json.dumps(line), flush=True)


class Handler:
    def __init__(self, answer):
        self._answer = answer

    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = self._answer.read_text().strip() if self._answer.exists() else ""
        if answer:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        say(
            sender=envelope.mail_from,
            recipients=envelope.rcpt_tos,
            data=envelope.content.decode("utf-8", "replace"),
            encrypted=session.ssl is not None,
            user=(session.auth_data or b"").decode(),
        )
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    known = data.login == b"weir" and data.password == b"s3cr3t-mail-password"
    return AuthResult(success=known, handled=True, auth_data=data.login) if known else AuthResult(success=False, handled=False)


port, certificate, key, answer = sys.argv[1:5]
tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(certificate, key)


Controller(
    Handler(pathlib.Path(answer)),
    hostname="127.0.0.1",
    port=int(port),
    tls_context=tls,
    require_starttls=True,
    authenticator=authenticate,
    auth_required=True,
).start()
say(listens=int(port))
threading.Event().wait()
