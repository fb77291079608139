"""Why an address cannot be listened on. gRPC says only that it could not, and which variable to set."""

from __future__ import annotations

import socket


def refusal(host: str, port: int) -> str:
    """What the system says to a socket there.

    >>> with socket.create_server(("127.0.0.1", 0)) as taken:
    ...     refusal("127.0.0.1", taken.getsockname()[1]).partition(": ")[2]
    'Address already in use'
    """
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        with socket.create_server((bare, port), family=family):
            reason = "it was taken a moment ago"
    except OSError as error:
        reason = str(error.strerror or error).partition(" (while")[0]  # then comes the address once more
    return f"cannot listen on {host}:{port}: {reason}"
