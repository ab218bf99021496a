"""A document review in one session: operations in all states, and an export whose remote side is down."""

import sys
import time

from weir_client import ActivityLogger


class RemoteDown(ConnectionError):
    pass


def export(bucket):
    raise RemoteDown(f"cannot reach bucket {bucket}: connection refused")


def review(session):
    logger = ActivityLogger(session_id=session, user_id="reviewer")
    with logger.operation("document_upload", {"filename": "قرارداد.pdf", "file_size_bytes": 2_621_440, "file_size_mb": 2.5}):
        time.sleep(0.01)
    for section in ("summary", "terms", "costs"):
        with logger.operation("ai_analysis", {"section": section}) as analysis:
            time.sleep(0.005)
            analysis.complete(True, details={"feedback_generated": 3, "analysis_duration_seconds": 0.005})
    logger.start_operation("document_generation", {"filename": "report.docx"})
    logger.start_operation("export_operation", {"location": "s3"})
    try:
        export("reviews")
    except RemoteDown as error:
        logger.log_s3_operation("export", False, {"bucket_name": "reviews", "files_count": 2}, error)
        hint = {"recovery_hint": "the files are kept here; export again when the bucket answers"}
        logger.complete_operation(False, error, hint)
    logger.complete_operation(True)
    logger.log_activity(event_type="feedback_accepted", status="success", description="section terms")
    logger.log_activity(event_type="feedback_rejected", status="success", description="section costs")
    logger.log_activity(event_type="s3_connection_test", status="warning", description="slow: 4.2 s")

    @logger.operation("chat_interaction", {"message_length": 42})
    def answer():
        raise ValueError("the model gave no answer")

    try:
        answer()
    except ValueError:
        pass
    # Still running when this program ends: in progress at first, lost in the end.
    logger.start_operation("s3_upload", {"filename": "large.zip", "file_size_bytes": 52_428_800})


if __name__ == "__main__":
    review("review-1" if sys.argv[1] == "demo" else sys.argv[1])
