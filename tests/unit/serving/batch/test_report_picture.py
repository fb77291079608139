"""The report's picture shows the right pictures, does without what is gone, and never fails a job."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from batch_fakes import job, picture_file, run, write_parquet, write_tar, write_tree
from cli_fakes import ThumbnailTokenizer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serving.batch import report_picture
from serving.batch.bar_chart import nice_step
from serving.batch.bins import length_bin_tokens, length_edges, psnr_bin_db
from serving.batch.extreme_pictures import read_pairs
from serving.batch.options import EncodeOptions
from serving.batch.report_picture import draw_report, lengths_chart, psnr_chart, write_report_picture
from serving.batch.reports import Totals
from tokenizer.images import read_image


@pytest.fixture(autouse=True)
def model(monkeypatch):
    monkeypatch.setattr(
        report_picture.ImageTokenizer, "from_pretrained", lambda *_, **__: ThumbnailTokenizer()
    )


SOURCES = {
    "tree": lambda folder, count: write_tree(folder / "tree", count),
    "tar": lambda folder, count: write_tar(folder / "a.tar", count, bad=(1,)),
    "parquet": lambda folder, count: write_parquet(folder / "a.parquet", count + 1),
}


@pytest.mark.parametrize("sink", ["parquet", "webdataset", "folder"])
@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_and_sink_gives_the_picture_beside_what_its_tokens_show(tmp_path, kind, sink):
    totals = run(tmp_path / "out", SOURCES[kind](tmp_path, 8), sink=sink, max_tokens=100)
    options = EncodeOptions((), sink=sink)
    pairs = read_pairs(tmp_path / "out", options, ThumbnailTokenizer(), totals.extremes, 64)
    assert len(pairs) == totals.pictures > 6
    for pair in pairs:
        number = int("".join(filter(str.isdigit, pair.facts.key)))
        pixels = read_image(picture_file(number))
        whole = ThumbnailTokenizer().encode([pixels])[0].prefix(100)
        shown = ThumbnailTokenizer().decode([whole])[0]
        assert (np.asarray(pair.source) == at_size(pixels, pair.source.size)).all()
        assert (np.asarray(pair.decoded) == at_size(shown, pair.decoded.size)).all()
        assert 5 < pair.psnr_db < 30


def at_size(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST))


def test_a_source_that_is_gone_leaves_the_decoded_picture(tmp_path):
    source = write_tar(tmp_path / "a.tar", 4)
    totals = run(tmp_path / "out", source)
    source.unlink()
    pairs = read_pairs(tmp_path / "out", EncodeOptions(()), ThumbnailTokenizer(), totals.extremes, 64)
    assert [(pair.source, pair.psnr_db) for pair in pairs] == [(None, None)] * 4
    assert all(pair.decoded is not None for pair in pairs)
    assert draw_report("t", totals, pairs[:2], pairs[2:]).width > 1000


def test_a_shard_that_is_gone_leaves_the_source(tmp_path):
    totals = run(tmp_path / "out", write_tree(tmp_path / "tree", 2))
    (tmp_path / "out" / "data" / "part-000000.parquet").unlink()
    pairs = read_pairs(tmp_path / "out", EncodeOptions(()), ThumbnailTokenizer(), totals.extremes, 64)
    assert all(pair.decoded is None and pair.source is not None for pair in pairs)


def test_the_picture_lies_beside_the_report_and_is_made_once(tmp_path):
    folder, options = tmp_path / "out", EncodeOptions(())
    totals = run(folder, write_tree(tmp_path / "tree", 3))
    write_report_picture(folder, options, totals)
    first = (folder / "report.png").stat()
    with Image.open(folder / "report.png") as picture:
        assert picture.width > 1000
    write_report_picture(folder, options, totals)
    assert (folder / "report.png").stat().st_mtime_ns == first.st_mtime_ns


def test_a_job_without_a_good_picture_has_a_report(tmp_path):
    totals = run(tmp_path / "out", write_tar(tmp_path / "a.tar", 2, bad=(0, 1)))
    write_report_picture(tmp_path / "out", EncodeOptions(()), totals)
    assert (tmp_path / "out" / "report.png").exists()


def test_whatever_goes_wrong_is_said_and_the_job_is_done(tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("no font")

    totals = run(tmp_path / "out", write_tree(tmp_path / "tree", 3))
    monkeypatch.setattr(report_picture, "draw_report", broken)
    write_report_picture(tmp_path / "out", EncodeOptions(()), totals)
    assert "warning: no report.png: RuntimeError: no font" in capsys.readouterr().err
    assert not (tmp_path / "out" / "report.png").exists()


def test_report_json_says_what_was_asked_by_whom_and_how_fast(tmp_path):
    one = job(tmp_path / "out", write_tree(tmp_path / "tree", 5), max_tokens=30)
    replace(one, facts={"engine": "local", "workers": 2}).run()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["options"]["max_tokens"] == 30 and report["command"] == "encode"
    assert (report["engine"], report["workers"]) == ("local", 2)
    assert report["this_run"]["pictures"] == 5 and report["this_run"]["pictures_per_second"] > 0
    assert report["lengths"] == [{"from_tokens": 24, "below_tokens": 32, "pictures": 5}]
    assert sum(row["pictures"] for row in report["predicted_psnr"]) == 5
    assert all(row["below_db"] == row["from_db"] + 0.5 for row in report["predicted_psnr"])


def test_a_run_with_nothing_to_do_keeps_the_report_of_the_one_that_did_it(tmp_path):
    one = job(tmp_path / "out", write_tree(tmp_path / "tree", 5))
    one.run()
    before = (tmp_path / "out" / "report.json").read_bytes()
    one.run()
    assert (tmp_path / "out" / "report.json").read_bytes() == before


@given(st.dictionaries(st.integers(0, 5000).map(lambda n: f"{length_bin_tokens(n)}"), st.integers(1, 99)))
def test_a_chart_of_lengths_shows_every_picture(bins):
    chart = lengths_chart(Totals(lengths=bins))
    assert sum(chart.counts) == sum(bins.values())
    assert len(chart.edges) == len(chart.counts) + 1 >= 3


@given(st.dictionaries(st.floats(0, 99).map(lambda db: f"{psnr_bin_db(db):g}"), st.integers(1, 99)))
def test_a_chart_of_quality_shows_every_picture_in_few_bars(bins):
    chart = psnr_chart(Totals(psnr_db=bins))
    assert sum(chart.counts) == sum(bins.values())
    assert len(chart.edges) == len(chart.counts) + 1 <= 41


@given(st.integers(0, 10**7))
def test_a_length_lies_within_its_bin(length):
    low = length_bin_tokens(length)
    edges = length_edges({f"{low}": 1})
    assert low <= length < edges[edges.index(low) + 1]


@given(st.integers(0, 10**12))
def test_grid_lines_are_few_and_round(highest):
    step = nice_step(highest)
    assert str(step).rstrip("0") in ("1", "2", "5")
    assert highest <= 4 * step or highest <= 1
