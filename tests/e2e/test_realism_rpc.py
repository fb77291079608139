"""Realism over the wire: it arrives, nonsense is refused, and a model without it says so."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running_server import Running, StartServer

from serving.client import TokenizerClient
from serving.client.errors import InvalidRequest, Unsupported
from serving.config import ServingConfig
from serving.server import build_server
from tessera.v1 import model_service_pb2, model_service_pb2_grpc
from tessera.v1 import tokenizer_service_pb2 as pb
from tokenizer import ImageTokenizer, TokenBudget
from tokenizer.errors import InvalidRealism
from tokenizer.realism import MAX_STEPS


@pytest.fixture
def realist(start_server: StartServer) -> Iterator[TokenizerClient]:
    """Client of a server whose model shows realism, steps and seed as brightness."""
    with start_server(has_realism=True).client() as client:
        yield client


def brightness(data: bytes) -> int:
    return int(np.frombuffer(data, np.uint8)[0])


def test_realism_steps_and_seed_reach_the_model(realist: TokenizerClient, photo: np.ndarray) -> None:
    stream = realist.encode(photo, TokenBudget(max_tokens=30))
    dark = brightness(realist.decode(stream, "raw"))
    assert dark == brightness(realist.decode(stream, "raw", realism=0.0, steps=7, seed=9))
    bright = realist.decode(stream, "raw", realism=0.5, steps=2, seed=3)
    assert brightness(bright) == dark + 50 + 20 + 3
    assert brightness(realist.decode(stream, "raw", realism=0.5)) == dark + 50 + 40


def test_the_server_chooses_the_steps_where_none_are_given(
    realist: TokenizerClient, photo: np.ndarray
) -> None:
    stream = realist.encode(photo, TokenBudget(max_tokens=30))
    request = pb.DecodeRequest(codestream=stream.to_bytes(), options=pb.DecodeOptions(realism=0.5))
    reply = realist._call(realist._tokenizer.Decode, request)
    assert reply.image.data == realist.decode(stream, realism=0.5)


def test_previews_are_refined_too(realist: TokenizerClient, photo: np.ndarray) -> None:
    stream = realist.encode(photo, TokenBudget(max_tokens=30))
    plain = [brightness(preview.image) for preview in realist.decode_stream(stream, (5, 10), "raw")]
    refined = realist.decode_stream(stream, (5, 10), "raw", realism=0.3, steps=1, seed=2)
    assert [brightness(preview.image) for preview in refined] == [value + 42 for value in plain]


@pytest.mark.parametrize(
    "options",
    [
        pb.DecodeOptions(realism=-0.5),
        pb.DecodeOptions(realism=1.5),
        pb.DecodeOptions(realism=float("nan")),
        pb.DecodeOptions(realism=0.5, step_count=MAX_STEPS + 1),
        pb.DecodeOptions(realism=0.5, step_count=-1),
        pb.DecodeOptions(step_count=100),
    ],
)
def test_nonsense_is_an_invalid_argument(
    realist: TokenizerClient, photo: np.ndarray, options: pb.DecodeOptions
) -> None:
    codestream = realist.encode(photo, TokenBudget(max_tokens=30)).to_bytes()
    request = pb.DecodeRequest(codestream=codestream, options=options)
    with pytest.raises(InvalidRequest) as caught:
        realist._call(realist._tokenizer.Decode, request)
    assert caught.value.reason == "OPTION_INVALID"


def test_the_client_refuses_nonsense_itself(realist: TokenizerClient, photo: np.ndarray) -> None:
    with pytest.raises(InvalidRealism):
        realist.decode(realist.encode(photo, TokenBudget(max_tokens=30)), realism=2.0)


def test_a_model_without_a_refiner_is_unsupported_and_still_shows_fidelity(
    client: TokenizerClient, photo: np.ndarray
) -> None:
    stream = client.encode(photo, TokenBudget(max_tokens=30))
    with pytest.raises(Unsupported) as caught:
        client.decode(stream, realism=0.5)
    assert caught.value.reason == "OPERATION_UNSUPPORTED"
    assert client.decode(stream, realism=0.0, seed=5) == client.decode(stream)


def test_the_server_says_whether_its_model_has_realism_and_how_many_steps_it_takes(
    start_server: StartServer,
) -> None:
    for has_realism in (False, True):
        running = start_server(has_realism=has_realism)
        with running.client() as client, running.channel() as channel:
            (model,) = client.models()
            assert model.has_realism is has_realism
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            assert stub.GetModel(model_service_pb2.GetModelRequest()).model.has_realism is has_realism
            assert client.server_info().limits.max_realism_step_count == MAX_STEPS


def test_the_server_and_the_library_imagine_the_same_picture(
    server_loop, refined_artifact: Path, photo: np.ndarray
) -> None:
    library = ImageTokenizer.from_pretrained(refined_artifact)

    async def build():
        server = build_server(ServingConfig(port=0, metrics_port=0), tokenizer=library)
        await server.start()
        await server.load()
        return server

    running = Running(None, library, server_loop)
    running.server = running.call(build(), timeout_s=100)
    with running.client() as client:
        stream = client.encode(photo, TokenBudget(max_tokens=64))
        served = np.asarray(Image.open(io.BytesIO(client.decode(stream, realism=0.7, steps=3, seed=11))))
    running.call(running.server.stop())
    (expected,) = library.decode([stream], realism=0.7, steps=3, seed=11)
    assert np.array_equal(served, expected)
    assert not np.array_equal(served, library.decode([stream])[0])
