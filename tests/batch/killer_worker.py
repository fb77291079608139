"""A worker that dies over one picture, as in a C library that fails. Spawned processes import this file."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from serving.batch import encoder
from serving.batch.worker import UnitWorker, WorkerSettings, make_worker
from tokenizer.images import read_image

GUILTY = "0004.png"


def make_killer(settings: WorkerSettings) -> UnitWorker:
    """As the real one, but for this picture."""
    deadly = Path(settings.options.sources[0], GUILTY).read_bytes()

    def read(data):
        if data == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_image(data)

    encoder.read_image = read
    return make_worker(settings)


def make_stillborn(settings: WorkerSettings) -> UnitWorker:
    """Dies before it is ready, as where memory does not hold the model."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def make_broken(settings: WorkerSettings) -> UnitWorker:
    """Cannot load, with an error that does not pickle."""

    class Unportable(Exception):
        pass

    raise Unportable("no such thing")
