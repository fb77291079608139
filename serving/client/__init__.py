"""A server as if it were the library: TokenizerClient, and AsyncTokenizerClient for asyncio.

Needs grpcio, protobuf, googleapis-common-protos, numpy and Pillow; no settings, no model, no compiler.

requests  what the caller asks -> wire messages (pure)
replies   wire messages -> what the caller gets (pure)
errors    what a call can fail with, as one tree
channel   message sizes, pings, retries, load balancing
session   what both clients keep: limits, patience, key
sync      TokenizerClient;       many_sync  its bulk streams
aio       AsyncTokenizerClient;  many_aio   its bulk streams
many      the items of a bulk stream in work, and when to give up (pure)

>>> with TokenizerClient("127.0.0.1:50051") as client:                       # doctest: +SKIP
...     stream = client.encode(open("photo.jpg", "rb").read(), TokenBudget(max_bytes=128))
...     open("photo.png", "wb").write(client.decode(stream))
"""

from serving.client.aio import AsyncTokenizerClient
from serving.client.errors import ServiceError
from serving.client.replies import Limits, ModelInfo, Preview, ServerInfo
from serving.client.requests import Picture
from serving.client.sync import TokenizerClient
from tokenizer.budget import TokenBudget
from tokenizer.sequence import TokenSequence

__all__ = [
    "AsyncTokenizerClient",
    "Limits",
    "ModelInfo",
    "Picture",
    "Preview",
    "ServerInfo",
    "ServiceError",
    "TokenBudget",
    "TokenSequence",
    "TokenizerClient",
]
