"""A gRPC server that answers every call with as many zeros as it is told, and does nothing else.

    python -m benchmarks.echo_server PORT_FILE REPLY_BYTES

What a call over the loopback costs by itself: grpc.aio, as the service has it, without the service.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc


class _Echo(grpc.GenericRpcHandler):
    def __init__(self, reply: bytes) -> None:
        async def call(_request: bytes, _context: Any) -> bytes:
            return reply

        self._handler = grpc.unary_unary_rpc_method_handler(call)

    def service(self, _details: Any) -> Any:
        """The same for every method."""
        return self._handler


async def serve(port_file: Path, reply_bytes: int) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Echo(bytes(reply_bytes)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    unfinished = port_file.with_suffix(".tmp")
    unfinished.write_text(json.dumps({"target": f"127.0.0.1:{port}", "metrics_port": 0}))
    unfinished.rename(port_file)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
