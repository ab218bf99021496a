"""Activities, operations, middleware and log records become the events that they should."""

import asyncio
import logging
import os
import tempfile
import threading
import unittest

from support import events

import weir_client
from weir_client import ActivityLogger, WeirHandler, WeirMiddleware, WeirWsgiMiddleware, add_activity, log_activity


class Recording(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="weir-test-")
        os.environ["WEIR_SPOOL_DIR"] = self.folder.name
        # A spool of its own, as a new process would have.
        weir_client._emit._spool_of.clear()

    def tearDown(self):
        self.folder.cleanup()
        del os.environ["WEIR_SPOOL_DIR"]

    def recorded(self):
        return events(self.folder.name)

    def one(self):
        found = self.recorded()
        self.assertEqual(len(found), 1, found)
        return found[0]


class Operations(Recording):
    def test_an_operation_is_a_start_and_an_end_with_what_was_known_at_both(self):
        logger = ActivityLogger(session_id="s1", user_id="ali")
        operation = logger.start_operation("document_upload", {"filename": "a.pdf"})
        self.assertTrue(logger.complete_operation(details={"pages": 3}))
        self.assertFalse(logger.complete_operation(), "nothing is open any more")
        start, end = self.recorded()
        for event in (start, end):
            self.assertEqual(event["event_type"], "document_upload")
            self.assertEqual((event["session_id"], event["user_id"]), ("s1", "ali"))
            self.assertEqual(event["operation_id"], operation.id)
        self.assertEqual((start["status"], start["metadata"]), ("in_progress", {"filename": "a.pdf"}))
        self.assertEqual((end["status"], end["metadata"]), ("success", {"filename": "a.pdf", "pages": 3}))
        self.assertGreaterEqual(end["duration_ms"], 0)

    def test_the_innermost_ends_first(self):
        logger = ActivityLogger()
        outer = logger.start_operation("outer")
        logger.start_operation("inner")
        logger.complete_operation(False, "no room")
        logger.complete_operation()
        ends = [event for event in self.recorded() if event["status"] != "in_progress"]
        self.assertEqual([event["event_type"] for event in ends], ["inner", "outer"])
        self.assertEqual((ends[0]["status"], ends[0]["error_message"]), ("error", "no room"))
        self.assertEqual(ends[0]["metadata"]["parent_operation_id"], outer.id)

    def test_a_context_manager_records_what_was_raised_and_lets_it_pass(self):
        logger = ActivityLogger()
        with self.assertRaises(KeyError), logger.operation("export", {"a": 1}):
            raise KeyError("b")
        with self.assertRaises(KeyboardInterrupt), logger.operation("export"):
            raise KeyboardInterrupt
        ends = [event for event in self.recorded() if event["status"] != "in_progress"]
        self.assertEqual((ends[0]["status"], ends[0]["error_type"]), ("error", "KeyError"))
        self.assertIn("Traceback", ends[0]["error_trace"])
        self.assertEqual(ends[1]["status"], "aborted")

    def test_a_context_manager_may_be_ended_by_hand(self):
        logger = ActivityLogger()
        with logger.start_operation("upload") as operation:
            operation.complete(False, "broken", {"bytes": 7})
        self.assertEqual([event["status"] for event in self.recorded()], ["in_progress", "error"])

    def test_a_session_ends_what_is_still_open(self):
        with ActivityLogger() as logger:
            logger.start_operation("forgotten")
        with self.assertRaises(KeyError), ActivityLogger() as logger:
            logger.start_operation("outer")
            logger.start_operation("inner")
            raise KeyError("k")

        async def session():
            async with ActivityLogger() as logger:
                with logger("quick"):
                    pass

        asyncio.run(session())
        ends = [(e["event_type"], e["status"]) for e in self.recorded() if e["status"] != "in_progress"]
        self.assertEqual(ends, [("forgotten", "aborted"), ("inner", "error"), ("outer", "error"), ("quick", "success")])

    def test_functions_and_coroutines_are_decorated(self):
        logger = ActivityLogger()

        @logger.operation("add", {"k": 1})
        def add(a, b):
            return a + b

        @logger.operation
        async def multiply(a, b):
            await asyncio.sleep(0)
            return a * b

        self.assertEqual((add(1, 2), add(3, 4), asyncio.run(multiply(3, 4))), (3, 7, 12))
        names = [event["event_type"] for event in self.recorded()]
        self.assertEqual(names, ["add"] * 4 + ["multiply"] * 2)

    def test_tasks_and_threads_end_their_own_operations(self):
        logger = ActivityLogger()

        async def slow(waits):
            async with logger.operation("slow"):
                await waits.wait()

        async def quick(ended):
            async with logger.operation("quick"):
                await asyncio.sleep(0)
            ended.set()

        async def both():
            logger.start_operation("outer")
            ended = asyncio.Event()
            await asyncio.gather(slow(ended), quick(ended))
            self.assertTrue(logger.complete_operation())

        asyncio.run(both())
        logger.start_operation("here")
        ended = []
        thread = threading.Thread(target=lambda: ended.append(logger.complete_operation()))
        thread.start()
        thread.join()
        self.assertEqual(ended, [False], "it belongs to another thread")
        logger.complete_operation()
        ends = [event["event_type"] for event in self.recorded() if event["status"] == "success"]
        self.assertEqual(ends, ["quick", "slow", "outer", "here"])

    def test_an_s3_operation_has_its_prefix(self):
        logger = ActivityLogger()
        logger.log_s3_operation("export", False, {"bucket_name": "b"}, ConnectionError("remote is down"))
        logger.log_s3_operation("s3_upload", details={"duration_ms": 12.5})
        failed, uploaded = self.recorded()
        self.assertEqual((failed["event_type"], failed["status"]), ("s3_export", "error"))
        self.assertEqual((failed["error_type"], failed["error_message"]), ("ConnectionError", "remote is down"))
        self.assertEqual((uploaded["event_type"], uploaded["duration_ms"]), ("s3_upload", 12.5))


class Activities(Recording):
    def test_an_activity_has_the_canonical_names(self):
        add_activity("order_created", "order", 17, "ali", "a new order", {"total": 12.5})
        event = self.one()
        expected = {"event_type": "order_created", "entity_type": "order", "entity_id": "17", "user_id": "ali"}
        self.assertEqual({name: event[name] for name in expected}, expected)
        self.assertEqual((event["description"], event["metadata"]), ("a new order", {"total": 12.5}))

    def test_the_words_of_a_chat_product_are_understood(self):
        class Address:
            host = "10.0.0.9"

        class Url:
            path = "/api/login"

        class Request:
            client, url, method = Address, Url, "POST"
            headers = {"user-agent": "curl", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}

        async def act():
            await log_activity(
                request=Request, user_id="anon-7", action_type="login", success=False, status_code=401,
                duration_ms=12, error_message="wrong password", error_type="AuthError", target_user_id="u2",
                target_resource_id="r1", resource_type="session", details={"k": 1}, is_admin=False,
            )  # fmt: skip

        asyncio.run(act())
        event = self.one()
        expected = {
            "user_id": "anon-7", "event_type": "login", "status": "error", "status_code": 401, "duration_ms": 12,
            "endpoint": "/api/login", "http_method": "POST", "ip_address": "10.0.0.9", "user_agent": "curl",
            "trace_id": "a" * 32, "error_message": "wrong password", "error_type": "AuthError",
            "target_user_id": "u2", "entity_id": "r1", "entity_type": "session", "metadata": {"k": 1},
            "is_admin": False,
        }  # fmt: skip
        self.assertEqual({name: event.get(name) for name in expected}, expected)

    def test_the_words_of_a_shop_are_understood(self):
        log_activity("UPDATE", "order", "17", "ali", "shipped", metadata={"new_status": "SHIPPED"})
        event = self.one()
        self.assertEqual((event["event_type"], event["entity_type"], event["entity_id"]), ("UPDATE", "order", "17"))
        self.assertEqual((event["user_id"], event["description"]), ("ali", "shipped"))
        self.assertEqual(event["metadata"], {"new_status": "SHIPPED"})

    def test_whatever_is_given_nothing_is_raised(self):
        loop = []
        loop.append(loop)
        odd = {"nan": float("nan"), "set": {1}, (1, 2): b"\xff", "loop": loop, "lone": "\ud800", "object": object()}
        add_activity("odd", details=odd)
        log_activity(object(), nonsense=object(), details=odd)
        weir_client.emit({"event_type": "big", "metadata": {"a": "x" * 5_000_000}})
        weir_client.emit({"event_type": "control", "code": "\x00" * 2_000_000})
        self.assertFalse(weir_client.emit(None))
        found = self.recorded()
        self.assertEqual(len(found), 4)
        self.assertEqual(found[0]["metadata"]["nan"], "nan")
        for event in found:
            self.assertLess(len(str(event)), 1_000_000)
        self.assertEqual(found[3]["truncated"]["code"]["bytes"], 2_000_000)

    def test_ids_are_of_this_moment_and_never_the_same(self):
        ids = {weir_client._encode.new_id() for _ in range(10_000)}
        self.assertEqual(len(ids), 10_000)
        self.assertTrue(all(len(i) == 36 and i[14] == "7" and i[19] in "89ab" for i in ids))
        self.assertEqual(weir_client._encode.timestamp(1_735_689_600_000_001_999), "2025-01-01T00:00:00.000001Z")


class Requests(Recording):
    @staticmethod
    def asgi(app, **options):
        async def go():
            scope = {
                "type": "http", "path": "/api/chat", "method": "POST", "client": ("10.0.0.9", 5), "state": {"user": "u1"},
                "headers": [(b"user-agent", b"curl"), (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")],
            }  # fmt: skip

            async def send(message):
                pass

            await WeirMiddleware(app, **options)(scope, None, send)

        return asyncio.run(go())

    def test_an_asgi_request_is_one_event(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 404})
            await send({"type": "http.response.body", "body": b""})

        self.asgi(app, identify=lambda scope: {"user_id": scope["state"]["user"], "is_admin": True})
        event = self.one()
        expected = {
            "endpoint": "/api/chat", "http_method": "POST", "status_code": 404, "status": "error", "user_id": "u1",
            "ip_address": "10.0.0.9", "user_agent": "curl", "trace_id": "a" * 32, "is_admin": True,
        }  # fmt: skip
        self.assertEqual({name: event.get(name) for name in expected}, expected)
        self.assertIn("duration_ms", event)

    def test_an_asgi_application_that_fails_or_is_cancelled_is_told_apart(self):
        async def fails(scope, receive, send):
            raise ValueError("bad")

        async def cancelled(scope, receive, send):
            raise asyncio.CancelledError

        with self.assertRaises(ValueError):
            self.asgi(fails)
        with self.assertRaises(asyncio.CancelledError):
            self.asgi(cancelled)
        first, second = self.recorded()
        self.assertEqual((first["status_code"], first["error_type"]), (500, "ValueError"))
        self.assertEqual(second["status"], "aborted")

    def test_excluded_paths_and_other_protocols_pass(self):
        async def app(scope, receive, send):
            pass

        self.asgi(app, exclude=["/api/chat"])
        asyncio.run(WeirMiddleware(app)({"type": "lifespan"}, None, None))
        self.assertEqual(self.recorded(), [])

    def test_an_identify_that_fails_breaks_no_request(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})

        self.asgi(app, identify=lambda scope: 1 / 0)

    def test_a_wsgi_request_is_recorded_when_its_body_is_sent(self):
        closed = []

        class Body:
            def __iter__(self):
                return iter([b"a", b"b"])

            def close(self):
                closed.append(True)

        def app(environ, start_response):
            start_response("201 Created", [])
            return Body()

        environ = {"PATH_INFO": "/\xd8\xb3", "REQUEST_METHOD": "GET", "REMOTE_ADDR": "::1", "HTTP_USER_AGENT": "curl"}
        body = WeirWsgiMiddleware(app)(environ, lambda status, headers: None)
        self.assertEqual(self.recorded(), [])
        self.assertEqual(list(body), [b"a", b"b"])
        body.close()
        event = self.one()
        self.assertEqual((event["endpoint"], event["status_code"], event["ip_address"]), ("/س", 201, "::1"))
        self.assertEqual(closed, [True])

    def test_a_wsgi_application_that_fails_is_recorded(self):
        def app(environ, start_response):
            raise ValueError("bad")

        with self.assertRaises(ValueError):
            WeirWsgiMiddleware(app)({"PATH_INFO": "/"}, None)
        self.assertEqual((self.one()["status_code"], self.one()["error_type"]), (500, "ValueError"))


class Logging(Recording):
    def test_a_record_is_an_event(self):
        logger = logging.getLogger("shop")
        logger.propagate = False
        handler = WeirHandler(service="shop")
        logger.addHandler(handler)
        try:
            logger.warning("low on %s", "stock", extra={"product": 7})
            try:
                raise KeyError("k")
            except KeyError:
                logger.exception("failed")
            logger.error("bad %d", "format")
        finally:
            logger.removeHandler(handler)
        first, second = self.recorded()
        self.assertEqual((first["description"], first["status"]), ("low on stock", "warning"))
        self.assertEqual((first["metadata"]["product"], first["metadata"]["logger"]), (7, "shop"))
        self.assertEqual((second["status"], second["error_type"]), ("error", "KeyError"))


if __name__ == "__main__":
    unittest.main()
