"""The `tessera` command: what scripts may trust about files, streams, JSON and exit codes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from cli_fakes import FINGERPRINT, Ran, ThumbnailTokenizer
from PIL import Image

from serving.cli import flags, local
from serving.cli.files import plan_jobs
from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.errors import RealismUnavailable
from tokenizer.images import read_image
from tokenizer.sequence import TokenSequence


def picture_bytes() -> bytes:
    out = BytesIO()
    Image.linear_gradient("L").resize((60, 40)).save(out, format="PNG")
    return out.getvalue()


def test_encode_writes_a_stream_beside_the_picture(folder: Path) -> None:
    ran = Ran("encode", "a.png")
    assert (ran.code, ran.err) == (0, "")
    sequence = TokenSequence.from_bytes(Path("a.tsr").read_bytes())
    assert (sequence.source, sequence.length) == (Size(60, 40), 192)
    assert ran.out.startswith("a.png -> a.tsr  60x40  202 bytes  192 tokens")


@pytest.mark.parametrize(
    ("options", "length"),
    [
        (["--max-tokens", "7"], 7),
        (["--max-bytes", "64"], 54),
        (["--bits-per-pixel", "0.1"], 20),
        (["--max-tokens", "5000"], 192),
        (["--bare", "--max-bytes", "64"], 64),
    ],
)
def test_encode_keeps_the_budget(folder: Path, options: list[str], length: int) -> None:
    assert Ran("encode", "a.png", *options).code == 0
    size_bytes = len(Path("a.tsr").read_bytes())
    assert size_bytes == length + (0 if "--bare" in options else 10)


def test_encode_to_a_quality_spends_less_for_less(folder: Path) -> None:
    lengths = []
    for quality in ("15", "20", "28"):
        assert Ran("encode", "a.png", "--min-psnr", quality, "-o", "-").code == 0
        lengths.append(len(Ran("encode", "a.png", "--min-psnr", quality, "-o", "-").out_bytes))
    assert lengths == sorted(set(lengths))


def test_pictures_travel_through_pipes(folder: Path) -> None:
    packed = Ran("encode", "-", stdin=picture_bytes())
    cut = Ran("truncate", "-", "--max-bytes", "50", stdin=packed.out_bytes)
    decoded = Ran("decode", "-", "--format", "webp", stdin=cut.out_bytes)
    assert packed.code == cut.code == decoded.code == 0
    assert cut.out_bytes == packed.out_bytes[:50]
    assert decoded.out_bytes[8:12] == b"WEBP"
    assert read_image(decoded.out_bytes).shape == (40, 60, 3)


def test_nothing_but_data_goes_to_stdout_when_it_carries_data(folder: Path) -> None:
    ran = Ran("encode", "a.png", "-o", "-", "--json", "--max-tokens", "5")
    assert TokenSequence.from_bytes(ran.out_bytes).length == 5
    assert json.loads(ran.err)["tokens"] == 5


def test_json_is_one_object_per_input_with_every_fact(folder: Path) -> None:
    ran = Ran(
        "encode", "a.png", "bad.png", "missing.png", "b.jpg", "-o", "out", "--json", "--max-bytes", "30"
    )
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert ran.code == 3
    assert [line["file"] for line in lines] == ["a.png", "bad.png", "missing.png", "b.jpg"]
    assert [line.get("reason") for line in lines] == [
        None,
        "IMAGE_FORMAT_UNSUPPORTED",
        "FILE_NOT_FOUND",
        None,
    ]
    first = lines[0]
    assert first.pop("milliseconds") >= 0
    assert first.pop("predicted_psnr_db") > 10
    assert first == {
        "file": "a.png",
        "output": os.path.join("out", "a.tsr"),
        "bytes": 30,
        "tokens": 20,
        "width": 60,
        "height": 40,
        "bits_per_pixel": 0.1,
        "coding": "range",
        "fingerprint": FINGERPRINT,
    }


def test_a_bad_input_is_one_line_and_the_others_are_written(folder: Path) -> None:
    ran = Ran("encode", "bad.png", "a.png", "b.jpg", "-o", "out/")
    assert ran.code == 3
    assert ran.err.startswith("error: bad.png: begins with b'<html>'")
    assert ran.err.endswith("[IMAGE_FORMAT_UNSUPPORTED]\n") and ran.err.count("\n") == 1
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.tsr", "b.tsr"]


def test_a_stream_of_another_model_is_a_bad_input(folder: Path) -> None:
    Path("x.tsr").write_bytes(TokenSequence(b"abc", Size(8, 8), "11111111").to_bytes())
    ran = Ran("decode", "x.tsr")
    assert (ran.code, ran.err.count("\n")) == (3, 1)
    assert "[MODEL_MISMATCH]" in ran.err and not Path("x.png").exists()


def test_a_missing_model_is_a_failure_of_the_tool(folder: Path) -> None:
    ran = Ran("encode", "a.png", "--model", "nowhere")
    assert (ran.code, ran.err) == (1, "error: there is no model nowhere [MODEL_NOT_FOUND]\n")


def test_an_unwritable_output_is_a_failure_of_the_tool(folder: Path) -> None:
    Path("plain").write_bytes(b"")
    ran = Ran("encode", "a.png", "-o", "plain/x.tsr")
    assert ran.code == 1
    assert ran.err.startswith("error: plain/x.tsr: ") and ran.err.endswith("[OUTPUT_UNWRITABLE]\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode"],
        ["encode", "a.png", "--max-bytes", "50", "--max-tokens", "5"],
        ["encode", "a.png", "--max-bytes", "0"],
        ["encode", "a.png", "--coding", "huffman"],
        ["encode", "a.png", "--bits-per-pixel", "nan"],
        ["encode", "a.png", "--min-psnr", "20", "--coverage", "1.5"],
        ["encode", "a.png", "--coverage", "0.95"],
        ["encode", "a.png", "--max-bytes", "50", "--coverage", "0.9"],
        ["encode", "a.png", "--total-bytes", "50", "--coverage", "0.9"],
        ["client", "encode", "a.png", "--coverage", "0.95"],
        ["client", "many", ".", "-o", "out", "--coverage", "0.95"],
        ["batch", "encode", ".", "-o", "out", "--coverage", "0.95"],
        ["encode", "a.png", "b.jpg", "-o", "-"],
        ["encode", "a.png", "b.jpg", "-o", "a.png"],
        ["encode", "a.png", "-o", "a.png"],
        ["encode", "a.png", "sub/a.jpg", "-o", "out"],
        ["encode", "-", "-"],
        ["decode", "x.tsr", "-o", "x.gif"],
        ["decode", "x.tsr", "--format", "gif"],
        ["decode", "x.tsr", "--coding", "fixed"],
        ["decode", "x.tsr", "--bare"],
        ["decode", "x.tsr", "--bare", "--size", "0x4"],
        ["decode", "x.tsr", "--realism", "1.5"],
        ["decode", "x.tsr", "--realism", "nan"],
        ["decode", "x.tsr", "--realism", "1", "--steps", "9"],
        ["decode", "x.tsr", "--realism", "1", "--seed", "-1"],
        ["client", "decode", "x.tsr", "--realism", "nan"],
        ["truncate", "x.tsr", "-o", "y.tsr"],
        ["truncate", "x.tsr", "--max-bytes", "20"],
        ["info", "x.tsr", "--model", "default"],
        ["serve", "--no-such-flag"],
    ],
)
def test_a_command_line_without_sense_ends_with_2_and_touches_nothing(
    folder: Path, arguments: list[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert Ran(*arguments).code == 2
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_binary_is_not_written_to_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with pytest.raises(flags.typer.BadParameter, match="terminal"):
        plan_jobs(["a.png"], "-", ".tsr")


def test_decode_chooses_the_format_by_the_ending(folder: Path) -> None:
    Ran("encode", "a.png")
    for name, magic in (("x.png", b"\x89PNG"), ("x.JPG", b"\xff\xd8\xff"), ("x.webp", b"RIFF")):
        assert Ran("decode", "a.tsr", "-o", name).code == 0
        assert Path(name).read_bytes().startswith(magic)


def test_decode_shows_realism_where_asked(folder: Path) -> None:
    """The fake model answers realism with the negative."""
    Ran("encode", "a.png")
    for name, options in (("plain", ()), ("real", ("--realism", "0.7", "--steps", "2", "--seed", "5"))):
        assert Ran("decode", "a.tsr", "-o", f"{name}.png", *options).code == 0
    plain, real = (read_image(Path(f"{name}.png").read_bytes()) for name in ("plain", "real"))
    assert np.array_equal(real, 255 - plain)


def test_realism_that_the_model_has_not_is_a_failure_of_the_tool(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RealismUnavailable("no refiner")

    monkeypatch.setattr(ThumbnailTokenizer, "decode", refuse)
    Ran("encode", "a.png", "b.jpg", "-o", "out/")
    ran = Ran("decode", "out/a.tsr", "out/b.tsr", "--realism", "1")
    assert (ran.code, ran.err) == (1, "error: no refiner [OPERATION_UNSUPPORTED]\n")


def test_decode_of_a_prefix_equals_decode_of_a_truncated_file(folder: Path) -> None:
    Ran("encode", "a.png")
    Ran("truncate", "a.tsr", "--max-tokens", "20", "-o", "cut.tsr")
    Ran("decode", "a.tsr", "--max-tokens", "20", "-o", "one.png")
    Ran("decode", "cut.tsr", "-o", "two.png")
    Ran("decode", "a.tsr", "-o", "whole.png")
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes() != Path("whole.png").read_bytes()


def test_bare_tokens_decode_with_the_size_alone(folder: Path) -> None:
    Ran("encode", "a.png", "-o", "full.tsr")
    Ran("encode", "a.png", "--bare", "-o", "bare.tok")
    assert Path("full.tsr").read_bytes()[10:] == Path("bare.tok").read_bytes()
    assert Ran("decode", "full.tsr", "-o", "full.png").code == 0
    assert Ran("decode", "bare.tok", "--bare", "--size", "60x40", "-o", "bare.png").code == 0
    assert Path("full.png").read_bytes() == Path("bare.png").read_bytes()


@pytest.mark.parametrize("coding", ["fixed", "range"])
def test_a_stream_keeps_its_coding_through_cut_and_decode(folder: Path, coding: str) -> None:
    assert Ran("encode", "a.png", "--coding", coding, "-o", "x.tsr").code == 0
    assert Ran("truncate", "x.tsr", "--max-tokens", "191", "-o", "cut.tsr").code == 0
    facts = json.loads(Ran("info", "cut.tsr", "--json").out)
    assert (facts["coding"], facts["version"]) == (coding, {"fixed": 1, "range": 2}[coding])
    assert f"{coding} coding" in Ran("info", "cut.tsr").out
    Ran("encode", "a.png", "-o", "default.tsr")
    Ran("decode", "x.tsr", "-o", "x.png")
    Ran("decode", "default.tsr", "-o", "default.png")
    assert Path("x.png").read_bytes() == Path("default.png").read_bytes()
    assert (Path("x.tsr").read_bytes() == Path("default.tsr").read_bytes()) == (coding == "range")


def test_bare_tokens_decode_only_with_the_coding_they_were_made_in(folder: Path) -> None:
    Ran("encode", "a.png", "-o", "full.tsr")
    Ran("decode", "full.tsr", "-o", "full.png")
    Ran("encode", "a.png", "--bare", "--coding", "fixed", "-o", "bare.tok")
    bare = ("decode", "bare.tok", "--bare", "--size", "60x40", "-o")
    assert Ran(*bare, "right.png", "--coding", "fixed").code == 0
    assert Ran(*bare, "wrong.png").code == 0
    assert Path("right.png").read_bytes() == Path("full.png").read_bytes() != Path("wrong.png").read_bytes()


def test_pictures_that_share_a_total_share_the_coding(folder: Path) -> None:
    options = ("--coding", "fixed", "--total-bytes", "100", "--json")
    ran = Ran("encode", "a.png", "b.jpg", "-o", "out/", *options)
    assert [json.loads(line)["coding"] for line in ran.out.splitlines()] == ["fixed", "fixed"]


def test_truncate_may_write_over_its_input_when_told_so(folder: Path) -> None:
    Ran("encode", "a.png")
    assert Ran("truncate", "a.tsr", "--max-bytes", "40", "-o", "a.tsr").code == 0
    assert Path("a.tsr").stat().st_size == 40


def test_truncate_needs_no_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ran("encode", "a.png")
    monkeypatch.setattr(local, "load_tokenizer", lambda *_: pytest.fail("loaded a model"))
    assert Ran("truncate", "a.tsr", "--max-tokens", "3", "-o", "cut.tsr").code == 0


def test_truncate_below_the_header_is_a_bad_input(folder: Path) -> None:
    Ran("encode", "a.png")
    ran = Ran("truncate", "a.tsr", "--max-bytes", "10", "-o", "cut.tsr")
    assert ran.code == 3 and "[RATE_INVALID]" in ran.err and not Path("cut.tsr").exists()


def test_info_reads_the_header_of_any_model(folder: Path) -> None:
    stream = TokenSequence(bytes(30), Size(640, 480), "0011aabb", coding=Coding.FIXED).to_bytes()
    ran = Ran("info", "-", "--json", stdin=stream)
    facts = json.loads(ran.out)
    assert ran.code == 0
    assert (facts["tokens"], facts["bytes"], facts["width"], facts["height"]) == (30, 40, 640, 480)
    assert (facts["fingerprint"], facts["coding"], facts["version"]) == ("0011aabb", "fixed", 1)
    assert (facts["canvas_width"], facts["canvas_height"]) == (288, 224)
    assert Ran("info", "bad.png").code == 3


def test_info_tells_about_a_model(folder: Path) -> None:
    facts = json.loads(Ran("info", "--model", "default", "--json").out)
    assert facts["has_realism"] is True
    assert (facts["stream_version_fixed"], facts["stream_version_range"]) == (1, 2)
    assert (facts["name"], facts["fingerprint"], facts["max_tokens_at_256x256"]) == (
        "thumbnail",
        FINGERPRINT,
        192,
    )
    assert FINGERPRINT in Ran("info").out


def test_outputs_overwrite_like_cp_and_keep_links_and_permissions(folder: Path) -> None:
    real = folder / "real.tsr"
    real.write_bytes(b"old")
    real.chmod(0o640)
    (folder / "link.tsr").symlink_to(real)
    assert Ran("encode", "a.png", "-o", "link.tsr").code == 0
    assert (folder / "link.tsr").is_symlink()
    assert TokenSequence.from_bytes(real.read_bytes()).length == 192
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_device_is_written_to_and_not_replaced(folder: Path) -> None:
    assert Ran("encode", "a.png", "-o", os.devnull).code == 0
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_failed_write_leaves_the_old_output_and_no_scratch_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.tsr").write_bytes(b"old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serving.cli.files.os.replace", full_disk)
    ran = Ran("encode", "a.png")
    assert (ran.code, ran.err) == (1, "error: a.tsr: No space left on device [OUTPUT_UNWRITABLE]\n")
    assert Path("a.tsr").read_bytes() == b"old"
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]


def test_help_names_the_exit_codes() -> None:
    assert "Exit codes: 0" in Ran("--help").out
    assert Ran("--version").out.startswith("tessera ")


def test_the_command_starts_without_grpc_and_without_torch() -> None:
    code = "import sys, serving.cli; print([m for m in ('grpc', 'torch', 'onnxruntime') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
