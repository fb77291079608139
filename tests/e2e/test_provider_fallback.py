"""A model on another execution provider than the one asked for: told in metrics and in ModelService."""

from __future__ import annotations

from fake_tokenizer import FakeTokenizer

from serving.commands import Tokenizer
from serving.config import ServingConfig
from serving.model import load_and_warm_up
from tokenizer.providers import ProviderFallback


def test_a_fallback_is_counted_and_the_model_tells_what_really_runs_it(start_server):
    running = start_server(load=False, providers=("cuda", "cpu"), allow_provider_fallback=True)
    running.tokenizer.provider_fallback = ProviderFallback("cuda", "cpu")
    running.expect(0, "tessera_provider_fallbacks_total", requested="cuda", actual="cpu")
    running.call(running.server.load())
    running.expect(1, "tessera_provider_fallbacks_total")
    running.expect(1, "tessera_provider_fallbacks_total", requested="cuda", actual="cpu")
    running.expect(1, "tessera_model_info", provider="cpu")
    with running.client() as client:
        assert client.models()[0].providers == ("cpu",)


def test_without_a_fallback_nothing_is_counted(running):
    running.expect(0, "tessera_provider_fallbacks_total")


def test_on_a_gpu_every_bucket_is_warmed_up():
    tokenizer = FakeTokenizer(codings=FakeTokenizer.codings[:1])
    config = ServingConfig(providers=("cuda", "cpu"), max_batch_size=8)

    def load(_source: str, _config: ServingConfig) -> Tokenizer:
        return tokenizer

    assert load_and_warm_up("fake", config, load).fallback is None
    assert [count for op, count in tokenizer.calls if op == "encode"] == [1, 2, 4, 8]
