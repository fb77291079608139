"""`tessera batch encode` and `decode` as a user runs them: exit codes, messages, lists on stdin, JSON."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from batch_fakes import FACTS, InProcess, picture_file, pictures, write_tar, write_tree
from cli_fakes import Ran, ThumbnailTokenizer
from PIL import Image

from serving.batch import decode_job, encode_job, engines, ray_engine, report_picture
from serving.batch.errors import PackageMissing
from tokenizer.errors import ArtifactError


def model_facts(name: str) -> dict[str, str]:
    if name != "default":
        raise ArtifactError(f"there is no model {name}")
    return FACTS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the engine in this process and the model of thumbnails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engines, "LocalEngine", lambda workers: InProcess())
    for module in (encode_job, decode_job):
        monkeypatch.setattr(module, "model_facts", model_facts)
    monkeypatch.setattr(
        report_picture.ImageTokenizer, "from_pretrained", lambda *_, **__: ThumbnailTokenizer()
    )
    return tmp_path


def words(text: str) -> str:
    """Without the frames and line ends of typer's messages."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def test_pictures_to_tokens_and_back_is_two_commands(folder):
    write_tree(folder / "photos", 5)
    encoded = Ran("batch", "encode", "photos", "-o", "tokens", "--shard-size", "2", "--max-tokens", "64")
    assert encoded.code == 0
    assert encoded.out == "5 pictures, 64.0 bytes each, none bad; see tokens/report.json\n"
    decoded = Ran("batch", "decode", "tokens", "-o", "back", "--format", "jpg", "--quality", "95")
    assert decoded.code == 0 and decoded.out.startswith("5 pictures, ")
    assert next(iter(pictures(folder / "back" / "data"))) == "part-000000/a/000.png.jpg"
    assert (folder / "tokens" / "report.png").exists()


def test_bad_pictures_end_in_3_and_are_only_counted_when_decoding(folder):
    write_tar(folder / "a.tar", 5, bad=(1, 2))
    encoded = Ran("batch", "encode", "a.tar", "-o", "tokens")
    assert encoded.code == 3
    assert "3 pictures" in encoded.out and "2 bad (see tokens/errors.jsonl)" in encoded.out
    decoded = Ran("batch", "decode", "tokens", "-o", "back")
    assert decoded.code == 0 and "none bad, 2 were bad before" in decoded.out


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("fast", "4 of 4 pictures are not expected to reach 29.5 dB at coverage 0.9"),
        ("verify", "3 of 4 pictures do not reach 29.5 dB"),
        ("exact", "3 of 4 pictures do not reach 29.5 dB"),
    ],
)
def test_pictures_short_of_the_asked_quality_are_counted_in_one_warning(folder, monkeypatch, mode, said):
    """The fake's curve ends at 30 dB less a margin of 1; its thumbnail of one colour is exact."""
    write_tree(folder / "photos", 3)
    Image.new("RGB", (12, 9), (90, 30, 60)).save(folder / "photos" / "flat.png")
    command = ("batch", "encode", "photos", "-o", "tokens", "--min-psnr", "29.5", "--mode", mode)
    command = (*command, "--shard-size", "2")
    monkeypatch.setattr(engines, "LocalEngine", lambda workers: InProcess(stop_after=1))
    assert Ran(*command).code != 0
    monkeypatch.setattr(engines, "LocalEngine", lambda workers: InProcess())
    ran = Ran(*command, "--json")
    warnings = [line for line in ran.err.splitlines() if line.startswith("warning: ")]
    assert (ran.code, warnings) == (0, [f"warning: {said}: all their tokens are kept"])
    short = json.loads(ran.out)["short_of_quality"]
    assert f"{short} of 4" in said
    assert json.loads((folder / "tokens" / "report.json").read_text())["short_of_quality"] == short


def test_a_quality_that_every_picture_is_expected_to_reach_is_no_warning(folder):
    write_tree(folder / "photos", 3)
    ran = Ran("batch", "encode", "photos", "-o", "tokens", "--min-psnr", "29", "--json")
    assert (ran.code, json.loads(ran.out)["short_of_quality"]) == (0, 0) and "warning" not in ran.err


def test_damaged_streams_end_in_3(folder):
    (folder / "in").mkdir()
    (folder / "in" / "a.tsr").write_bytes(b"half")
    ran = Ran("batch", "decode", "in", "-o", "back")
    assert ran.code == 3 and "1 bad (see back/errors.jsonl)" in ran.out
    assert "CODESTREAM_MALFORMED" in (folder / "back" / "errors.jsonl").read_text()


def test_a_job_that_goes_on_says_how_much_was_done(folder, monkeypatch):
    write_tree(folder / "photos", 10)
    command = ("batch", "encode", "photos", "-o", "tokens", "--shard-size", "1")
    monkeypatch.setattr(engines, "LocalEngine", lambda workers: InProcess(stop_after=3))
    assert Ran(*command).code != 0
    monkeypatch.setattr(engines, "LocalEngine", lambda workers: InProcess())
    again = Ran(*command)
    assert again.code == 0 and "goes on: 3 of 10 shards are done" in again.err
    assert "nothing is left to do: 10 of 10 shards are done" in Ran(*command).err


def test_a_list_on_stdin_is_read_in_its_order(folder):
    write_tree(folder / "photos", 2)
    names = b"photos/b/001.png\n\nphotos/a/000.png\ngone.png\n"
    ran = Ran("batch", "encode", "-", "-o", "tokens", "--to", "folder", stdin=names)
    assert ran.code == 3 and ran.out.startswith("2 pictures")
    assert '"gone.png", "reason": "IMAGE_MISSING"' in (folder / "tokens" / "errors.jsonl").read_text()
    assert (folder / "tokens" / "data" / "photos" / "a" / "000.png.tsr").exists()


def test_json_is_one_object_on_stdout(folder):
    write_tree(folder / "photos", 3)
    for command, out in (("encode", "tokens"), ("decode", "back")):
        source = "photos" if command == "encode" else "tokens"
        ran = Ran("batch", command, source, "-o", out, "--json")
        facts = json.loads(ran.out)
        assert (ran.code, facts["pictures"], facts["errors"], facts["tokens"]) == (0, 3, 0, 576)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("encode", "photos"), "Missing option '--out'"),
        (("decode", "-o", "x"), "Missing argument 'SOURCE...'"),
        (
            ("encode", "photos", "-o", "x", "--to", "zip"),
            "one of parquet, webdataset, folder, got 'zip'",
        ),
        (
            ("decode", "tokens", "-o", "x", "--to", "parquet"),
            "one of folder, webdataset, got 'parquet'",
        ),
        (("decode", "tokens", "-o", "x", "--format", "gif"), "must be one of png, jpeg, webp, got 'gif'"),
        (("decode", "tokens", "-o", "x", "--quality", "5"), "png is lossless"),
        (
            ("encode", "photos", "-o", "x", "--token-column", "text"),
            "one of list, binary, got 'text'",
        ),
        (("encode", "photos", "-o", "x", "--engine", "spark"), "must be one of local, ray, got 'spark'"),
        (("decode", "tokens", "-o", "x", "--num-gpus", "1"), "need --engine ray"),
        (
            ("encode", "photos", "-o", "x", "--engine", "ray", "--workers", "2", "--min-workers", "3"),
            "--min-workers 3 is above --workers 2",
        ),
        (("encode", "photos", "-o", "x", "--total-bytes", "9", "--max-tokens", "9"), "not both"),
        (("encode", "-", "-o", "x"), "there are none"),
        (("decode", "tokens", "-o", "x", "--max-tokens", "-1"), "Invalid value for '--max-tokens'"),
        (("encode", "photos", "-o", "x", "--max-error-rate", "2"), "Invalid value for '--max-error-rate'"),
    ],
)
def test_a_command_line_that_makes_no_sense_ends_in_2_and_writes_nothing(folder, arguments, message):
    ran = Ran("batch", *arguments, stdin=b"")
    assert ran.code == 2
    assert message in words(ran.err)
    assert not (folder / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("encode", "nowhere", "-o", "x"), "SOURCE_REFUSED"),
        (("decode", "photos", "-o", "x"), "SOURCE_REFUSED"),
        (("encode", "photos", "-o", "x", "--model", "none"), "MODEL_NOT_FOUND"),
        (("decode", "a.tsr", "-o", "x", "--model", "none"), "MODEL_NOT_FOUND"),
        (("encode", "photos", "-o", "photos"), "JOB_MISMATCH"),
        (("encode", "photos", "a.tsr", "-o", "x"), "SOURCE_REFUSED"),
        (("encode", "bad.tar", "-o", "x", "--fail-fast"), "TOO_MANY_ERRORS"),
    ],
)
def test_what_cannot_begin_or_go_on_ends_in_1_with_one_line(folder, arguments, reason):
    write_tree(folder / "photos", 2)
    write_tar(folder / "bad.tar", 1, bad=(0,))
    (folder / "a.tsr").write_bytes(b"")
    ran = Ran("batch", *arguments)
    assert ran.code == 1
    (line,) = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert line.endswith(f"[{reason}]")


def test_other_options_for_a_job_that_is_there_end_in_1(folder):
    write_tree(folder / "photos", 2)
    Ran("batch", "encode", "photos", "-o", "tokens")
    ran = Ran("batch", "encode", "photos", "-o", "tokens", "--max-tokens", "9")
    assert ran.code == 1 and "options.max_tokens (null there, 9 here)" in ran.err


def test_a_folder_that_cannot_be_made_ends_in_1_with_one_line(folder):
    write_tree(folder / "photos", 1)
    (folder / "file").write_text("")
    ran = Ran("batch", "encode", "photos", "-o", "file/tokens")
    assert ran.code == 1 and "error: " in ran.err and "Traceback" not in ran.err


def test_ray_that_is_not_installed_says_what_to_install(folder, monkeypatch):
    def missing():
        raise PackageMissing("--engine ray needs Ray: pip install 'tessera[ray]'")

    monkeypatch.setattr(ray_engine, "_import_ray", missing)
    write_tree(folder / "photos", 1)
    ran = Ran("batch", "encode", "photos", "-o", "tokens", "--engine", "ray")
    assert ran.code == 1 and "pip install 'tessera[ray]'" in ran.err


def test_metrics_of_both_commands_go_into_a_file(folder):
    write_tar(folder / "a.tar", 4, bad=(3,))
    Ran("batch", "encode", "a.tar", "-o", "tokens", "--metrics-textfile", "encode.prom")
    Ran("batch", "decode", "tokens", "-o", "back", "--metrics-textfile", "decode.prom")
    text = (folder / "encode.prom").read_text()
    assert 'tessera_batch_pictures_total{outcome="error"} 1.0' in text
    text = (folder / "decode.prom").read_text()
    assert 'tessera_batch_pictures_total{outcome="ok"} 3.0' in text
    assert "tessera_batch_done_pictures 4.0" in text


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_help_names_every_panel_and_the_exit_codes(command):
    ran = Ran("batch", command, "--help")
    assert ran.code == 0
    for text in ("--out", "--engine", "--ray-address", "--metrics-textfile", "exit code 3", "How it runs"):
        assert text in words(ran.out)
    assert "Exit codes: 0 all done" in words(Ran("batch", "--help").out)


def test_pictures_that_nobody_may_read_are_rows_with_errors(folder):
    if os.geteuid() == 0:
        (folder / "photos").mkdir()
        (folder / "photos" / "a.png").symlink_to("nowhere.png")
    else:
        write_tree(folder / "photos", 1)
        (folder / "photos" / "a" / "000.png").chmod(0)
    assert Ran("batch", "encode", "photos", "-o", "tokens").code == 3


def test_the_picture_of_a_key_is_that_picture(folder):
    (folder / "photos").mkdir()
    for seed in (3, 7):
        (folder / "photos" / f"{seed}.png").write_bytes(picture_file(seed))
    Ran("batch", "encode", "photos", "-o", "tokens", "--to", "folder")
    Ran("batch", "decode", "tokens", "-o", "back")
    sizes = {name: picture.shape[:2] for name, picture in pictures(folder / "back" / "data").items()}
    assert sizes == {"3.png": (9, 15), "7.png": (9, 14)}
