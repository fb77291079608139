"""Which flags may be missing where no connection comes about. gRPC's own words name none."""

from __future__ import annotations

import re

_HINTS = (
    (
        r"WRONG_VERSION_NUMBER",
        "does the server use TLS? If not, leave out --tls, --ca-file and --client-cert",
    ),
    (r"CERTIFICATE_VERIFY_FAILED", "who signed the server's certificate? Give that authority with --ca-file"),
    (r"Hostname Verification", "which name is in the server's certificate? Give it with --server-name"),
    # Without `last error` there was a connection, and it broke.
    (
        r"last error.*(Socket closed|[Cc]onnection reset)",
        "does the server use TLS (--tls, --ca-file), or ask for a certificate (--client-cert)?",
    ),
)


def with_hint(message: str) -> str:
    """The message, and what to try if that is known.

    >>> with_hint("Hostname Verification failed.").partition("? ")[2]
    'Give it with --server-name'
    """
    found = next((hint for pattern, hint in _HINTS if re.search(pattern, message)), None)
    return message if found is None else f"{message.rstrip('.')}: {found}"
