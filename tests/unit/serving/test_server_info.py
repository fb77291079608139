"""GetServerInfo tells every limit that a client can meet."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serving import replies
from serving.config import ServingConfig
from serving.rate_limit import RateLimits
from tessera.v1.model_service_pb2 import Limits

# How the server divides its own work, and what it writes to its log.
_NOT_MET_BY_CLIENTS = {"max_model_calls", "max_queue_delay_s", "max_shed_log_lines_per_s"}
_MET_BY_CLIENTS = [
    *(name for name in ServingConfig.model_fields if name.startswith("max_")),
    "default_deadline_s",
    "stream_idle_timeout_s",
]


def changed(name: str) -> ServingConfig:
    """Settings of which this one is next to its default, above it or below."""
    default = getattr(ServingConfig(), name)
    try:
        return ServingConfig(**{name: default + 1})
    except ValidationError:
        return ServingConfig(**{name: default - 1})


def limits(config: ServingConfig, rates: RateLimits | None = None) -> Limits:
    return replies.server_info(config, "1", rates, ready=True).limits


@pytest.mark.parametrize("name", _MET_BY_CLIENTS)
def test_every_limit_among_the_settings_is_told(name):
    is_told = limits(changed(name)) != limits(ServingConfig())
    assert is_told is (name not in _NOT_MET_BY_CLIENTS)


def test_the_streams_of_a_connection_are_told():
    assert limits(ServingConfig()).max_connection_stream_count == 416
    assert limits(ServingConfig(max_bulk_streams=100)).max_connection_stream_count == 584


def test_limits_that_there_are_not_stay_unset():
    told = limits(ServingConfig(max_connection_age_s=0))
    assert not told.HasField("max_connection_age") and not told.HasField("image_decode_timeout")
    isolated = ServingConfig(decode_isolation="process", decode_timeout_s=3)
    assert limits(isolated).image_decode_timeout.seconds == 3


@pytest.mark.parametrize(
    ("rates", "told"),
    [
        (None, (0, 0, 0)),
        (RateLimits(None, None, 5.0), (0, 0, 0)),
        (RateLimits(20.0, None, 5.0), (20, 0, 5)),
        (RateLimits(None, 40.0, 5.0), (0, 40, 5)),
    ],
)
def test_the_rates_of_the_callers_key_are_told(rates, told):
    found = limits(ServingConfig(), rates)
    assert (found.max_pictures_per_s, found.max_megapixels_per_s, found.rate_limit_burst.seconds) == told
