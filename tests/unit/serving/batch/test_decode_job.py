"""Tokens to pictures: all that was written is rebuilt, nothing is lost in silence, no job mixes in."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from batch_fakes import (
    FACTS,
    InProcess,
    decode,
    fake_worker,
    outputs,
    picture_file,
    pictures,
    run,
    write_parquet,
    write_tar,
    write_tree,
)
from cli_fakes import ThumbnailTokenizer

from serving.batch.decode_options import DecodeOptions
from serving.batch.errors import JobMismatch, SourceRefused
from serving.batch.names import parts_inside, picture_name
from serving.batch.token_source import token_units
from serving.batch.worker import WorkerSettings
from tokenizer.canvas import Size
from tokenizer.images import read_image
from tokenizer.sequence import TokenSequence


def shown(seed: int, max_tokens: int = 192) -> np.ndarray:
    """What the tokens of `picture_file(seed)` show."""
    (whole,) = ThumbnailTokenizer().encode([read_image(picture_file(seed))])
    return ThumbnailTokenizer().decode([whole.prefix(max_tokens)])[0]


def stream(seed: int = 0, fingerprint: str = FACTS["fingerprint"]) -> bytes:
    (whole,) = ThumbnailTokenizer().encode([read_image(picture_file(seed))])
    return replace(whole, fingerprint=fingerprint).to_bytes()


def errors(folder) -> dict[str, str]:
    lines = (folder / "errors.jsonl").read_text().splitlines()
    return {error["key"]: error["reason"] for error in map(json.loads, lines)}


@pytest.mark.parametrize(
    ("sink", "changes", "place"),
    [
        ("parquet", {}, "part-{shard:06d}/{key}"),
        ("parquet", {"token_column": "binary"}, "part-{shard:06d}/{key}"),
        ("webdataset", {}, "part-{shard:06d}/{key}"),
        ("folder", {}, "{key}"),
    ],
)
def test_pictures_come_back_from_every_sink_under_their_keys(tmp_path, sink, changes, place):
    source = write_tree(tmp_path / "tree", 7)
    run(tmp_path / "tokens", source, sink=sink, **changes)
    totals = decode(tmp_path / "out", tmp_path / "tokens")
    found = pictures(tmp_path / "out" / "data")
    keys = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.png"))
    wanted = {
        place.format(shard=number // 3, key=key): shown(int(key[2:5])) for number, key in enumerate(keys)
    }
    assert found.keys() == wanted.keys()
    assert all((found[name] == wanted[name]).all() for name in found)
    assert (totals.pictures, totals.errors, totals.skipped) == (7, 0, 0)


@pytest.mark.parametrize("sink", ["folder", "webdataset"])
def test_a_job_stopped_anywhere_ends_as_one_that_was_not(tmp_path, sink):
    run(tmp_path / "tokens", write_tar(tmp_path / "a.tar", 11, bad=(4, 5)))
    decode(tmp_path / "whole", tmp_path / "tokens", sink=sink)
    for stop in range(4):
        engine, again = InProcess(stop), InProcess()
        with pytest.raises(KeyboardInterrupt):
            decode(tmp_path / str(stop), tmp_path / "tokens", engine, sink=sink)
        decode(tmp_path / str(stop), tmp_path / "tokens", again, sink=sink)
        assert Counter(engine.ran + again.ran) == {0: 1, 1: 1, 2: 1, 3: 1}
        assert outputs(tmp_path / str(stop)) == outputs(tmp_path / "whole")


def test_rows_that_were_errors_are_skipped_and_counted(tmp_path):
    run(tmp_path / "tokens", write_tar(tmp_path / "a.tar", 7, bad=(2, 3)))
    totals = decode(tmp_path / "out", tmp_path / "tokens")
    assert (totals.pictures, totals.errors, totals.skipped, totals.samples) == (5, 0, 2, 7)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["skipped"] == 2


def test_damaged_streams_and_those_of_another_model_are_errors_and_the_others_are_written(tmp_path):
    streams = {"a": stream(1), "b": stream(2)[:7], "c": stream(3, "deadbeef"), "d": b"<html>", "e": stream(4)}
    (tmp_path / "in").mkdir()
    for name, data in streams.items():
        (tmp_path / "in" / f"{name}.tsr").write_bytes(data)
    totals = decode(tmp_path / "out", tmp_path / "in")
    assert sorted(pictures(tmp_path / "out" / "data")) == ["a.png", "e.png"]
    assert errors(tmp_path / "out") == {
        "b": "CODESTREAM_MALFORMED", "c": "MODEL_MISMATCH", "d": "CODESTREAM_MALFORMED",
    }  # fmt: skip
    assert totals.reasons == {"CODESTREAM_MALFORMED": 2, "MODEL_MISMATCH": 1}


def test_a_damaged_row_of_parquet_is_an_error(tmp_path):
    run(tmp_path / "tokens", write_tree(tmp_path / "tree", 3))
    (shard,) = (tmp_path / "tokens" / "data").iterdir()
    table = pyarrow.parquet.read_table(shard)
    rows = table.to_pylist()
    rows[0]["coding"], rows[1]["canvas_width_px"] = "morse", None
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, table.schema), shard)
    assert decode(tmp_path / "out", shard).pictures == 1
    assert set(errors(tmp_path / "out").values()) == {"CODESTREAM_MALFORMED"}


def test_a_prefix_shows_what_the_library_shows_of_it(tmp_path):
    run(tmp_path / "tokens", write_tar(tmp_path / "a.tar", 2))
    totals = decode(tmp_path / "out", tmp_path / "tokens", max_tokens=20)
    found = pictures(tmp_path / "out" / "data")
    assert (found["part-000000/x/001.png"] == shown(1, 20)).all()
    assert totals.tokens == 40


def test_realism_is_asked_of_the_model(tmp_path):
    run(tmp_path / "tokens", write_tar(tmp_path / "a.tar", 1))
    decode(tmp_path / "out", tmp_path / "tokens", realism=0.5, format="webp", quality=100)
    (picture,) = pictures(tmp_path / "out" / "data").values()
    assert abs(picture.astype(int) - (255 - shown(0).astype(int))).mean() < 40  # the fake inverts; WebP loses


def test_a_webdataset_has_one_shard_for_each_with_its_name_and_the_other_fields(tmp_path):
    run(tmp_path / "tokens", write_tar(tmp_path / "a.tar", 5), sink="webdataset")
    decode(tmp_path / "out", tmp_path / "tokens", sink="webdataset", format="jpeg")
    assert [path.name for path in sorted((tmp_path / "out" / "data").iterdir())] == [
        "part-000000.tar", "part-000001.tar",
    ]  # fmt: skip
    with tarfile.open(tmp_path / "out" / "data" / "part-000001.tar") as shard:
        assert shard.getnames() == ["x/003.cls", "x/003.jpg", "x/004.cls", "x/004.jpg"]


def test_a_shard_alone_keeps_its_name(tmp_path):
    run(tmp_path / "tokens", write_tar(tmp_path / "a.tar", 5))
    decode(tmp_path / "out", tmp_path / "tokens" / "data" / "part-000001.parquet", sink="webdataset")
    assert [path.name for path in (tmp_path / "out" / "data").iterdir()] == ["part-000001.tar"]


def test_a_stream_over_which_workers_died_is_an_error(tmp_path):
    run(tmp_path / "tokens", write_tree(tmp_path / "tree", 3))
    options = DecodeOptions((str(tmp_path / "tokens"),))
    (unit,) = token_units(options.sources, 3, ".png")
    worker = fake_worker(WorkerSettings(tmp_path / "out", options, FACTS))
    report = worker.run(replace(unit, poison=(1,)), tmp_path / "trail")
    assert [error["reason"] for error in report.errors] == ["WORKER_CRASHED"] and report.pictures == 2
    assert (tmp_path / "trail").read_text() == "2"


def test_a_second_picture_with_the_same_key_is_an_error(tmp_path):
    rows = [{"bytes": picture_file(seed), "path": "same.png"} for seed in range(3)]
    pyarrow.parquet.write_table(pyarrow.table({"image": pyarrow.array(rows)}), tmp_path / "a.parquet")
    run(tmp_path / "tokens", tmp_path / "a.parquet")
    totals = decode(tmp_path / "out", tmp_path / "tokens")
    assert (totals.pictures, totals.reasons) == (1, {"KEY_REPEATED": 2})
    (picture,) = pictures(tmp_path / "out" / "data").values()
    assert (picture == shown(0)).all()


def test_two_files_that_would_become_one_picture_are_refused(tmp_path):
    for name in ("a.tsr", "a.png.tsr"):
        (tmp_path / name).write_bytes(stream())
    with pytest.raises(SourceRefused, match="would be written to one place"):
        decode(tmp_path / "out", tmp_path)


def test_shards_of_one_name_are_refused(tmp_path):
    for job in "ab":
        run(tmp_path / job, write_tar(tmp_path / f"{job}.tar", 1))
    with pytest.raises(SourceRefused, match="part-000000"):
        list(token_units((str(tmp_path / "a"), str(tmp_path / "b")), 3, ".png"))


def test_a_job_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "tokens", write_tar(tmp_path / "a.tar", 7), InProcess(1))
    with pytest.raises(SourceRefused, match="is not finished"):
        decode(tmp_path / "out", tmp_path / "tokens")


def test_a_shard_that_changes_after_the_plan_is_refused(tmp_path):
    run(tmp_path / "tokens", write_tar(tmp_path / "a.tar", 4))
    shard = tmp_path / "tokens" / "data" / "part-000000.parquet"

    class Changing(InProcess):
        def run(self, settings, units):
            units = iter(list(units))
            shard.write_bytes((tmp_path / "tokens" / "data" / "part-000001.parquet").read_bytes())
            return super().run(settings, units)

    with pytest.raises(SourceRefused, match="has changed"):
        decode(tmp_path / "out", shard, Changing())


def test_what_batch_encode_did_not_write_is_refused(tmp_path):
    with pytest.raises(SourceRefused, match="no column 'key'"):
        decode(tmp_path / "out", write_parquet(tmp_path / "a.parquet", 3))
    with pytest.raises(SourceRefused, match=r"holds no \.tsr"):
        decode(tmp_path / "out", write_tar(tmp_path / "a.tar", 3))
    with pytest.raises(SourceRefused, match=r"holds no \.parquet, \.tar or \.tsr"):
        decode(tmp_path / "out", write_tree(tmp_path / "tree", 2))
    with pytest.raises(SourceRefused, match="matches nothing"):
        decode(tmp_path / "out", tmp_path / "*.tsr")


def test_a_shard_of_nothing_but_bad_pictures_is_an_empty_shard(tmp_path):
    run(tmp_path / "tokens", write_tar(tmp_path / "a.tar", 4, bad=(0, 1, 2)), sink="webdataset")
    totals = decode(tmp_path / "out", tmp_path / "tokens", sink="webdataset")
    assert (totals.units, totals.pictures) == (2, 1)


def test_pictures_do_not_go_where_tokens_are(tmp_path):
    run(tmp_path / "tokens", write_tree(tmp_path / "tree", 2))
    with pytest.raises(JobMismatch, match='command \\("encode" there, "decode" here\\)'):
        decode(tmp_path / "tokens", tmp_path / "tokens")


def test_an_fsspec_url_reads_as_the_folder_does(tmp_path):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.pipe("/streams/x/1.tsr", stream(1))
    decode(tmp_path / "out", "memory://streams")
    assert list(pictures(tmp_path / "out" / "data")) == ["x/1.png"]


@pytest.mark.parametrize("key", ["../../etc/passwd", "/", "..", "", "a\0b", "x" * 5000, "ü" * 300])
def test_no_key_leads_out_of_the_folder_or_is_too_long_for_it(key, tmp_path):
    place = tmp_path.joinpath(*parts_inside(key)).resolve()
    assert place.is_relative_to(tmp_path) and place != tmp_path
    assert max(len(part.encode()) for part in parts_inside(key)) < 200


def test_keys_that_are_too_long_stay_apart():
    assert parts_inside("x" * 300 + "a") != parts_inside("x" * 300 + "b")


def test_an_ending_that_lies_is_kept_before_the_true_one():
    assert picture_name("a.jpg", ".png") == "a.jpg.png"
    assert picture_name("a.JPEG", ".jpg") == "a.JPEG"


def test_a_stream_with_a_size_that_the_format_has_no_room_for_is_an_error(tmp_path):
    wide = TokenSequence(bytes(9), Size(20_000, 1), FACTS["fingerprint"]).to_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "wide.tsr").write_bytes(wide)
    decode(tmp_path / "out", tmp_path / "in", format="webp")
    assert errors(tmp_path / "out") == {"wide": "IMAGE_TOO_LARGE"}
