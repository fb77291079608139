"""A server process with a fake tokenizer: python serve_fake.py PORT_FILE SECONDS_PER_CALL. For tests."""

from __future__ import annotations

import sys
import time

from fake_tokenizer import FakeTokenizer

from serving.config import ServingConfig
from serving.server import run


class SlowTokenizer(FakeTokenizer):
    """Takes its time over every encode of a picture that is not the warm-up."""

    seconds_per_call = 0.0

    def encode(self, images, budget=None, **settings):
        if images[0].shape[:2] != (256, 256):
            time.sleep(self.seconds_per_call)
        return super().encode(images, budget, **settings)


if __name__ == "__main__":
    SlowTokenizer.seconds_per_call = float(sys.argv[2])
    config = ServingConfig(port=0, metrics_port=0, port_file=sys.argv[1], drain_timeout_s=10)
    raise SystemExit(run(config, tokenizer=SlowTokenizer()))
