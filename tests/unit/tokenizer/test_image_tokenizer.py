"""Pictures -> tokens -> pictures, on the tiny model: any size, any budget, any batch, any thread."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from generated_pictures import picture
from PIL import Image

from tokenizer import ImageTokenizer, Size, TokenBudget, TokenSequence
from tokenizer.coding import Coding
from tokenizer.errors import (
    BitstreamError,
    FingerprintMismatch,
    ImageModeUnsupported,
    ImageTooLarge,
    InvalidBudget,
)
from tokenizer.quality import psnr_db

SIZES = ((1, 1), (16, 16), (64, 48), (33, 77), (300, 20), (1500, 3), (256, 256))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return picture(100, 96, 80)


@pytest.mark.parametrize("coding", Coding)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_picture_of_any_size_comes_back_at_its_size(
    tiny_tokenizer: ImageTokenizer, width: int, height: int, coding: Coding
) -> None:
    (whole,) = tiny_tokenizer.encode([picture(7, width, height)], coding=coding)
    assert whole.source == Size(width, height)
    assert whole.coding is coding
    most = tiny_tokenizer.max_tokens(whole.canvas)
    # The range coding of a tiny picture has said everything earlier.
    assert whole.length == most or (coding is Coding.RANGE and whole.length < most)
    assert whole.fingerprint == tiny_tokenizer.fingerprint
    for pixels in tiny_tokenizer.decode([whole, whole.prefix(24), whole.prefix(0)]):
        assert pixels.shape == (height, width, 3)
        assert pixels.dtype == np.uint8


def test_more_tokens_give_a_better_picture_on_average(tiny_tokenizer: ImageTokenizer) -> None:
    lengths = (0, 8, 32, 128, 512, 2048)
    quality = []
    for seed in range(6):
        pixels = picture(seed, 64, 64)
        (whole,) = tiny_tokenizer.encode([pixels])
        decoded = tiny_tokenizer.decode([whole.prefix(length) for length in lengths])
        quality.append([psnr_db(pixels, image) for image in decoded])
    mean = np.mean(quality, axis=0)
    assert (np.diff(mean) > 0).all()
    assert mean[-1] > mean[0] + 10


def test_a_stream_cut_in_its_file_decodes_like_its_prefix(
    tiny_tokenizer: ImageTokenizer, photo: np.ndarray
) -> None:
    (whole,) = tiny_tokenizer.encode([photo])
    cut = TokenSequence.from_bytes(whole.to_bytes()[: 10 + 77])
    ours, theirs = tiny_tokenizer.decode([whole.prefix(77), cut])
    assert np.array_equal(ours, theirs)


def test_budgets_are_kept(tiny_tokenizer: ImageTokenizer, photo: np.ndarray) -> None:
    def encoded(**limit: float) -> TokenSequence:
        return tiny_tokenizer.encode([photo], TokenBudget(**limit))[0]

    assert encoded(max_tokens=40).length == 40
    assert len(encoded(max_bytes=100).to_bytes()) == 100
    assert 8 * len(encoded(bits_per_pixel=0.25).to_bytes()) <= 0.25 * photo.shape[0] * photo.shape[1]
    assert encoded(max_tokens=10**6).length == tiny_tokenizer.max_tokens(encoded(max_tokens=1).canvas)


def test_a_budget_only_cuts_the_stream(tiny_tokenizer: ImageTokenizer, photo: np.ndarray) -> None:
    (whole,) = tiny_tokenizer.encode([photo])
    (cut,) = tiny_tokenizer.encode([photo], TokenBudget(max_tokens=100))
    assert cut == whole.prefix(100)


def test_a_higher_quality_takes_more_tokens(tiny_tokenizer: ImageTokenizer, photo: np.ndarray) -> None:
    (whole,) = tiny_tokenizer.encode([photo])
    targets = (15.0, 20.0, 24.0, 99.0)
    asked = [tiny_tokenizer.encode([photo], TokenBudget(min_psnr_db=target))[0] for target in targets]
    lengths = [sequence.length for sequence in asked]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[2]
    assert lengths[-1] == whole.length


def test_the_curve_of_a_picture_spans_all_its_tokens(
    tiny_tokenizer: ImageTokenizer, photo: np.ndarray
) -> None:
    (whole,) = tiny_tokenizer.encode([photo])
    assert whole.curve is not None
    assert whole.curve.lengths[-1] == whole.length
    assert whole.predicted_psnr_db == whole.curve.psnr_db[-1]


def test_the_curve_predicts_what_decoding_gives(tiny_tokenizer: ImageTokenizer) -> None:
    lengths = (16, 64, 256)
    misses = []
    for seed in range(40, 46):
        pixels = picture(seed, 64, 64)
        (whole,) = tiny_tokenizer.encode([pixels])
        for length, image in zip(
            lengths, tiny_tokenizer.decode([whole.prefix(n) for n in lengths]), strict=True
        ):
            assert whole.curve is not None
            misses.append(abs(whole.curve.psnr_db_at(length) - psnr_db(pixels, image)))
    # The tiny head saw 4 pictures; what it adds to the exact linear error must still be small.
    assert np.mean(misses) < 1.0


def test_a_budget_without_room_for_a_token_is_refused(
    tiny_tokenizer: ImageTokenizer, photo: np.ndarray
) -> None:
    with pytest.raises(InvalidBudget):
        tiny_tokenizer.encode([photo], TokenBudget(max_bytes=5))


def test_tokens_do_not_depend_on_the_batch(tiny_tokenizer: ImageTokenizer) -> None:
    mixed = [picture(seed, width, height) for seed, (width, height) in enumerate(SIZES * 2)]
    together = tiny_tokenizer.encode(mixed)
    alone = [tiny_tokenizer.encode([pixels])[0] for pixels in mixed]
    assert together == alone


def test_decoded_pictures_do_not_depend_on_the_batch(tiny_tokenizer: ImageTokenizer) -> None:
    whole = tiny_tokenizer.encode([picture(seed, 64, 48) for seed in range(4)] + [picture(9, 33, 77)])
    mixed = [sequence.prefix(length) for sequence in whole for length in (5, 60, 900)]
    together = tiny_tokenizer.decode(mixed)
    alone = [tiny_tokenizer.decode([sequence])[0] for sequence in mixed]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))


def test_threads_share_one_tokenizer(tiny_tokenizer: ImageTokenizer) -> None:
    pictures = [picture(seed, 80, 64) for seed in range(8)]
    wanted = [tiny_tokenizer.encode([pixels])[0] for pixels in pictures]
    with ThreadPoolExecutor(8) as pool:
        # A tokenizer of its own: its caches are cold, so that the threads fill them in a race.
        cold = ImageTokenizer(tiny_tokenizer.artifact)
        encoded = list(pool.map(lambda pixels: cold.encode([pixels])[0], pictures))
        decoded = list(pool.map(lambda sequence: cold.decode([sequence.prefix(99)])[0], encoded))
    assert encoded == wanted
    for pixels, sequence in zip(decoded, wanted, strict=True):
        assert np.array_equal(pixels, tiny_tokenizer.decode([sequence.prefix(99)])[0])


def test_nothing_in_gives_nothing_out(tiny_tokenizer: ImageTokenizer) -> None:
    assert tiny_tokenizer.encode([]) == []
    assert tiny_tokenizer.decode([]) == []


def test_grey_is_read_as_equal_colours(tiny_tokenizer: ImageTokenizer, photo: np.ndarray) -> None:
    grey = photo[:, :, 1]
    forms = [grey, grey[:, :, None], Image.fromarray(grey), np.repeat(grey[:, :, None], 3, axis=2)]
    tokens = {sequence.tokens for sequence in tiny_tokenizer.encode(forms)}
    assert len(tokens) == 1


def test_pillow_and_array_give_the_same_tokens(tiny_tokenizer: ImageTokenizer, photo: np.ndarray) -> None:
    a, b = tiny_tokenizer.encode([photo, Image.fromarray(photo)])
    assert a == b


def test_alpha_is_laid_on_white(tiny_tokenizer: ImageTokenizer, photo: np.ndarray) -> None:
    alpha = np.zeros((*photo.shape[:2], 1), np.uint8)
    alpha[:, photo.shape[1] // 2 :] = 255
    on_white = np.where(alpha == 255, photo, 255).astype(np.uint8)
    rgba = np.concatenate((photo, alpha), axis=2)
    a, b, c = tiny_tokenizer.encode([rgba, Image.fromarray(rgba), on_white])
    assert a == b == c


def test_exif_rotation_is_applied(tiny_tokenizer: ImageTokenizer, photo: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    file = io.BytesIO()
    Image.fromarray(photo).save(file, format="PNG", exif=exif)
    with Image.open(file) as turned:
        a, b = tiny_tokenizer.encode([turned, np.rot90(photo, 3)])
    assert a == b
    assert a.source == Size(photo.shape[0], photo.shape[1])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_pillow_modes_encode(tiny_tokenizer: ImageTokenizer, mode: str) -> None:
    image = Image.linear_gradient("L").resize((40, 30))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    else:
        image = image.convert("RGB").convert(mode)
    (sequence,) = tiny_tokenizer.encode([image], TokenBudget(max_tokens=64))
    assert sequence.source == Size(40, 30)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int64),
        np.zeros((8, 8, 3), bool),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((8, 8, 5), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((0, 8), np.uint8),
        np.zeros((8, 0), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_that_is_no_picture_is_refused(tiny_tokenizer: ImageTokenizer, array: np.ndarray) -> None:
    with pytest.raises(ImageModeUnsupported, match="arrays must be"):
        tiny_tokenizer.encode([array])


def test_the_given_array_is_not_changed(tiny_tokenizer: ImageTokenizer, photo: np.ndarray) -> None:
    before = photo.copy()
    tiny_tokenizer.encode([photo])
    assert np.array_equal(photo, before)


class TestSequencesThatCannotBeDecoded:
    """Refused from their facts alone: the graphs are taken away, so that any work would fail."""

    @pytest.fixture
    def idle(self, tiny_tokenizer: ImageTokenizer, monkeypatch: pytest.MonkeyPatch) -> ImageTokenizer:
        monkeypatch.setattr(tiny_tokenizer, "decoder", None)
        return tiny_tokenizer

    def sequence(self, tokenizer: ImageTokenizer, **facts: object) -> TokenSequence:
        return replace(TokenSequence(bytes(8), Size(64, 64), tokenizer.fingerprint), **facts)

    def test_of_another_model(self, idle: ImageTokenizer) -> None:
        other = "00000000" if idle.fingerprint != "00000000" else "11111111"
        with pytest.raises(FingerprintMismatch, match=other):
            idle.decode([self.sequence(idle, fingerprint=other)])

    def test_with_more_tokens_than_its_canvas(self, idle: ImageTokenizer) -> None:
        tokens = bytes(idle.max_tokens(Size(64, 64)) + 1)
        with pytest.raises(BitstreamError, match="2049 tokens"):
            idle.decode([self.sequence(idle, tokens=tokens)])

    def test_with_a_source_of_four_billion_pixels(self, idle: ImageTokenizer) -> None:
        claimed = self.sequence(idle, source=Size(65_535, 65_535))
        with pytest.raises(ImageTooLarge, match="65535x65535"):
            idle.decode([TokenSequence.from_bytes(claimed.to_bytes())])

    def test_with_a_source_or_canvas_above_the_callers_limit(self, idle: ImageTokenizer) -> None:
        with pytest.raises(ImageTooLarge, match="limit 4095"):
            idle.decode([self.sequence(idle)], max_pixels=4095)
        with pytest.raises(ImageTooLarge, match="limit 4096"):
            idle.decode([self.sequence(idle, canvas=Size(80, 64))], max_pixels=4096)

    @pytest.mark.parametrize("canvas", [Size(24, 16), Size(16, 8192), Size(-16, 16)])
    def test_with_a_canvas_that_is_none(self, idle: ImageTokenizer, canvas: Size) -> None:
        with pytest.raises(BitstreamError, match="multiples of 16"):
            idle.decode([self.sequence(idle, canvas=canvas)])

    @pytest.mark.parametrize("source", [Size(0, 5), Size(5, -1)])
    def test_with_a_source_that_is_empty(self, idle: ImageTokenizer, source: Size) -> None:
        with pytest.raises(BitstreamError, match="source"):
            idle.decode([self.sequence(idle, source=source, canvas=Size(16, 16))])

    def test_one_bad_sequence_stops_the_batch_before_any_work(self, idle: ImageTokenizer) -> None:
        good = self.sequence(idle)
        with pytest.raises(FingerprintMismatch):
            idle.decode([good, replace(good, fingerprint="deadbeef")])


def test_any_tokens_decode(tiny_tokenizer: ImageTokenizer) -> None:
    rng = np.random.default_rng(0)
    streams = [TokenSequence(rng.bytes(n), Size(64, 48), tiny_tokenizer.fingerprint) for n in (1, 2, 9, 300)]
    for pixels in tiny_tokenizer.decode(streams):
        assert pixels.shape == (48, 64, 3)


def test_a_canvas_of_another_area_is_kept_in_the_file(tiny_tokenizer: ImageTokenizer) -> None:
    (small,) = tiny_tokenizer.encode([picture(3, 96, 96)], canvas_area_px=32 * 32)
    assert small.canvas == Size(32, 32)
    assert TokenSequence.from_bytes(small.to_bytes()) == small
    assert tiny_tokenizer.decode([small])[0].shape == (96, 96, 3)


def test_the_tokenizer_says_what_it_is(tiny_tokenizer: ImageTokenizer) -> None:
    assert (tiny_tokenizer.name, tiny_tokenizer.version) == ("tiny", "0.0.1")
    assert tiny_tokenizer.provider == "CPUExecutionProvider"
    assert (len(tiny_tokenizer.digest), len(tiny_tokenizer.fingerprint)) == (64, 8)


def test_a_canvas_that_takes_gigabytes_is_refused_whatever_the_callers_limit(
    tiny_tokenizer: ImageTokenizer,
) -> None:
    huge = TokenSequence(b"\0\0", Size(64, 64), tiny_tokenizer.fingerprint, Size(4096, 4096))
    with pytest.raises(ImageTooLarge, match="canvas 4096x4096"):
        tiny_tokenizer.decode([huge], max_pixels=10**9)


@pytest.mark.parametrize("slip", [np.zeros((32, 48, 3), np.uint8), Image.new("RGB", (48, 32)), "photo.jpg"])
def test_one_picture_in_place_of_a_list_is_refused_by_name(
    tiny_tokenizer: ImageTokenizer, slip: object
) -> None:
    with pytest.raises(ImageModeUnsupported, match="takes a list of pictures"):
        tiny_tokenizer.encode(slip)  # type: ignore[arg-type]


def test_a_path_in_the_list_is_refused_by_name(tiny_tokenizer: ImageTokenizer) -> None:
    with pytest.raises(ImageModeUnsupported, match="reads files"):
        tiny_tokenizer.encode(["photo.jpg"])  # type: ignore[list-item]
