"""JSON lines on stderr, written by a thread of their own. Knows nothing of what is logged."""

from __future__ import annotations

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
# Room for any sentence of ours and for a deep stack; no text of a client or a library grows a line further.
_MAX_TEXT_CHARS = 1_000
_MAX_STACK_CHARS = 10_000


def _bound_texts(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Shorten what is too long; of a stack the end says most."""
    for key, value in event.items():
        if key == "exception" and isinstance(value, str):
            event[key] = value[-_MAX_STACK_CHARS:]
        elif isinstance(value, str) and len(value) > _MAX_TEXT_CHARS:
            event[key] = value[: _MAX_TEXT_CHARS - 3] + "..."
    return event


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    _bound_texts,
]


class _DroppingQueueHandler(logging.handlers.QueueHandler):
    dropped_lines = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Called under the handler's lock."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            _DroppingQueueHandler.dropped_lines += 1


def dropped_lines() -> int:
    """Lines lost since the process began, because stderr was too slow."""
    return _DroppingQueueHandler.dropped_lines


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
