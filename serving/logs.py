"""JSON lines on stderr, written by a thread of their own. Knows nothing of what is logged."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import queue
import re
import sys
import uuid

import structlog

# At most this many lines wait for a slow stderr; then lines are lost rather than requests delayed.
_MAX_WAITING_LINES = 10_000
_SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


class _DroppingQueueHandler(logging.handlers.QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            self.queue.put_nowait(record)


def configure(level: str) -> logging.handlers.QueueListener:
    """Send our lines and those of libraries to stderr as JSON. Stop the listener to flush it."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue(_MAX_WAITING_LINES)
    handler = _DroppingQueueHandler(lines)
    # The queue handler formats in the caller's thread, where the context variables are.
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # So that `set_level` reaches the loggers that are there already.
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries speak at debug level of every turn of the event loop and every chunk of a PNG.
    root.setLevel(logging.WARNING)
    set_level(level)
    listener = logging.handlers.QueueListener(lines, logging.StreamHandler(sys.stderr))
    listener.start()
    return listener


def set_level(level: str) -> None:
    """Log lines of this level and above from now on: debug, info, warning or error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(number))
    logging.getLogger("tessera").setLevel(number)


def request_id(given: str | None) -> str:
    """The client's id if it is harmless in a log line, else a new one."""
    if given is not None and _SAFE_REQUEST_ID.fullmatch(given):
        return given
    return uuid.uuid4().hex
