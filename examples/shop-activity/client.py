"""Two services of a shop: `orders` and `payments`, which report what happens to the same orders."""

import os
import sys

from weir_client import ActivityLogger, emit, flush, log_activity


def orders(start, count):
    """The service that takes and changes orders."""
    for n in range(start, start + count):
        order, user, trace = f"order-{n}", f"customer-{n % 5}", f"{n:032x}"
        log_activity(
            "CREATE", "order", order, user, f"order {n} was placed",
            metadata={"total": 10.5 * n, "items": n % 3 + 1}, trace_id=trace, ip_address=f"10.0.0.{n % 250 + 1}",
            user_agent="orders/1.0",
        )  # fmt: skip
        if n % 2 == 0:
            change = {"old_status": "PAID", "new_status": "SHIPPED"}
            log_activity("UPDATE", "order", order, user, f"order {n} was shipped", metadata=change, trace_id=trace)
            log_activity("CREATE", "shipment", f"shipment-{n}", user, f"shipment of order {n}", trace_id=trace)
        if n % 7 == 0:
            log_activity("DELETE", "order", order, "staff-1", f"order {n} was cancelled 100%", trace_id=trace)


def payments(start, count):
    """The service that charges: some payments fail."""
    logger = ActivityLogger(session_id="payments-run")
    for n in range(start, start + count):
        failed = n % 6 == 5
        event = {
            "event_type": "PAYMENT",
            "entity_type": "payment",
            "entity_id": f"payment-{n}",
            "user_id": f"customer-{n % 5}",
            "description": f"payment of order-{n}",
            "session_id": logger.session_id,
            "trace_id": f"{n:032x}",
            "status": "error" if failed else "success",
            "duration_ms": 100 + n,
            "metadata": {"order": f"order-{n}", "amount": 10.5 * n},
        }
        if failed:
            event.update(error_type="CardDeclined", error_message="the card was declined")
        emit(event)


if __name__ == "__main__":
    service, start, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # A service's own token, over the API: $WEIR_URL and $WEIR_TOKEN.
    assert "WEIR_URL" in os.environ, "WEIR_URL says where to send"
    {"orders": orders, "payments": payments}[service](start, count)
    flush(10)
