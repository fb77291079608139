"""Pictures from bytes: every kind gives upright sRGB pixels or one typed error, and bombs stay cold."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from tokenizer.canvas import Size
from tokenizer.errors import (
    ImageAnimated,
    ImageCorrupt,
    ImageError,
    ImageFormatUnsupported,
    ImageMissing,
    ImageModeUnsupported,
    ImageTooLarge,
)
from tokenizer.images import (
    LIBRARY_FORMATS,
    SERVICE_FORMATS,
    WRITE_FORMATS,
    ImageLimits,
    image_size,
    read_image,
    sniff_format,
    to_rgb_array,
    write_image,
)


def photo(width: int = 48, height: int = 32) -> np.ndarray:
    """A smooth colour picture that is different in every corner."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    return np.stack([x * 255, y * 255, (1 - x) * 200], axis=-1).astype(np.uint8)


def file_bytes(image: Image.Image | np.ndarray, format: str, **options: object) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    out = BytesIO()
    image.save(out, format=format, **options)
    return out.getvalue()


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def png(width: int, height: int, bits: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand, for kinds that Pillow does not write; `extra` are chunks before the pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("format", LIBRARY_FORMATS)
def test_every_accepted_format_is_found_by_its_bytes_and_read(format: str) -> None:
    data = file_bytes(photo(), format)
    assert sniff_format(data) == format
    assert image_size(data) == Size(48, 32)
    pixels = read_image(data)
    assert pixels.shape == (32, 48, 3) and pixels.dtype == np.uint8 and pixels.flags.writeable
    assert psnr_db(pixels, photo()) > 25


@pytest.mark.parametrize("format", sorted(set(LIBRARY_FORMATS) - set(SERVICE_FORMATS)))
def test_a_format_outside_the_allow_list_is_refused_before_its_decoder_runs(format: str) -> None:
    with pytest.raises(ImageFormatUnsupported, match=f"{format} is not accepted") as caught:
        read_image(file_bytes(photo(), format), formats=SERVICE_FORMATS)
    assert caught.value.facts == {"sniffed": format, "accepted": ", ".join(SERVICE_FORMATS)}


@pytest.mark.parametrize("data", [b"<!DOCTYPE html>", b"This is not an image", b"\0", b"8BPS" + bytes(60)])
def test_bytes_that_are_no_picture_are_named_so(data: bytes) -> None:
    with pytest.raises(ImageFormatUnsupported):
        read_image(data)


def test_no_bytes_are_a_missing_picture() -> None:
    with pytest.raises(ImageMissing):
        read_image(b"")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation_is_applied_and_the_header_size_agrees(format: str, orientation: int) -> None:
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = file_bytes(photo(), format, exif=exif)
    expected = turn[orientation](photo())
    pixels = read_image(data)
    assert image_size(data) == Size(pixels.shape[1], pixels.shape[0])
    assert pixels.shape == expected.shape
    assert psnr_db(pixels, expected) > 25


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow warns, and goes on
def test_damaged_exif_does_not_cost_the_picture() -> None:
    data = file_bytes(photo(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert read_image(data).shape == (32, 48, 3)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_transparency_is_composited_on_white(format: str) -> None:
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[:, 1, 3], pixels[:, 2, 3], pixels[:, 3, 3] = 51, 204, 255
    read = read_image(
        file_bytes(Image.fromarray(pixels), format, **({"lossless": True} if format == "WEBP" else {}))
    )
    assert read[0, :, 0].tolist() == [255, 204, 51, 0]


def test_transparent_grey_and_palette_are_composited_on_white_too() -> None:
    grey = Image.merge("LA", [Image.new("L", (2, 2), 10), Image.new("L", (2, 2), 0)])
    palette = Image.new("P", (2, 2), 3)
    palette.putpalette(list(range(256)) * 3)
    for data in (file_bytes(grey, "PNG"), file_bytes(palette, "PNG", transparency=3)):
        assert (read_image(data) == 255).all()


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.array([[0, 128, 129, 32768, 65535]], dtype=np.uint16)
    for format in ("PNG", "TIFF"):
        read = read_image(file_bytes(Image.fromarray(values), format))
        assert read[0, :, 0].tolist() == [0, 0, 1, 128, 255], format
        assert (read[..., 0] == read[..., 2]).all()


def test_16_bit_colour_keeps_its_high_bytes() -> None:
    row = b"\0" + struct.pack(">6H", 0, 32768, 65535, 65535, 257, 0)
    assert read_image(png(2, 1, 16, 2, zlib.compress(row))).tolist() == [[[0, 128, 255], [255, 1, 0]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_other_modes_look_like_their_rgb_conversion(mode: str) -> None:
    image = Image.fromarray(photo()).convert(mode)
    assert (to_rgb_array(image) == np.asarray(image.convert("RGB"))).all()


def test_a_cmyk_jpeg_is_not_inverted() -> None:
    data = file_bytes(Image.fromarray(photo()).convert("CMYK"), "JPEG", quality=95)
    assert psnr_db(read_image(data), photo()) > 25


def test_lab_becomes_the_rgb_it_stands_for() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(photo()), srgb, lab, outputMode="LAB")
    assert psnr_db(read_image(file_bytes(image, "TIFF")), photo()) > 30


def linear_light_profile() -> bytes:
    """The sRGB profile with its three tone curves made straight lines."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    identity = b"curv" + bytes(4) + struct.pack(">I", 0)
    for index in range(struct.unpack_from(">I", profile, 128)[0]):
        name, offset, _ = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            profile[offset : offset + 12] = identity
            struct.pack_into(">I", profile, 132 + 12 * index + 8, 12)
    return bytes(profile)


def test_an_embedded_profile_is_converted_to_srgb() -> None:
    grey = np.full((8, 8, 3), 55, dtype=np.uint8)  # 55/255 of linear light is 128 in sRGB
    read = read_image(file_bytes(grey, "PNG", icc_profile=linear_light_profile()))
    assert abs(int(read[0, 0, 0]) - 128) <= 1


@pytest.mark.parametrize("profile", [b"no profile at all", linear_light_profile()[:200]])
def test_a_broken_profile_is_ignored(profile: bytes) -> None:
    assert (read_image(file_bytes(photo(), "PNG", icc_profile=profile)) == photo()).all()


def test_a_colour_profile_on_a_grey_picture_is_ignored() -> None:
    grey = Image.fromarray(photo()).convert("L")
    read = read_image(file_bytes(grey, "PNG", icc_profile=linear_light_profile()))
    assert (read[..., 0] == np.asarray(grey)).all()


def test_float_pixels_are_scaled_only_from_0_to_1() -> None:
    good = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert read_image(file_bytes(good, "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    for value in (-0.1, 1.5, np.nan, np.inf):
        bad = Image.fromarray(np.array([[0.5, value]], dtype=np.float32))
        with pytest.raises(ImageModeUnsupported):
            read_image(file_bytes(bad, "TIFF"))


def test_32_bit_integers_are_refused_because_white_is_unknown() -> None:
    with pytest.raises(ImageModeUnsupported):
        to_rgb_array(Image.new("I", (2, 2), 70_000))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_more_than_one_frame_is_refused(format: str) -> None:
    frames = [Image.fromarray(np.roll(photo(), shift, axis=1)) for shift in (0, 9)]
    data = file_bytes(frames[0], format, save_all=True, append_images=frames[1:])
    for read in (read_image, image_size):
        with pytest.raises(ImageAnimated):
            read(data)


def test_a_phone_picture_with_a_second_one_behind_it_is_its_first_picture() -> None:
    frames = [Image.fromarray(photo()), Image.fromarray(255 - photo())]
    data = file_bytes(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert psnr_db(read_image(data), photo()) > 25


@pytest.mark.parametrize(
    "bomb",
    [
        png(30_000, 30_000, 1, 0, zlib.compress(bytes(1_000_000))),
        png(10_000, 10_000, 8, 2, zlib.compress(bytes(1000))),
        b"RIFF\x16\0\0\0WEBPVP8X\n\0\0\0" + bytes(4) + b"\xfe\x3f\0" * 2,
        b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + file_bytes(photo(), "GIF")[10:],
    ],
    ids=["png-900-megapixels", "png-100-megapixels", "webp", "gif"],
)
def test_a_bomb_is_refused_from_its_header_without_its_memory(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        for read in (read_image, image_size):
            with pytest.raises(ImageTooLarge):
                read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_limits_are_inclusive_and_hold_per_call() -> None:
    data = file_bytes(photo(), "PNG")
    exact = ImageLimits(max_pixels=48 * 32, max_side_px=48, max_bytes=len(data))
    assert read_image(data, limits=exact).shape == (32, 48, 3)
    sides = {"width_px": 48, "height_px": 32}
    for limits, facts in (
        (ImageLimits(max_pixels=48 * 32 - 1), sides | {"limit": 48 * 32 - 1}),
        (ImageLimits(max_side_px=47), sides | {"limit": 47}),
        (ImageLimits(max_bytes=len(data) - 1), {"size_bytes": len(data), "limit": len(data) - 1}),
    ):
        with pytest.raises(ImageTooLarge) as caught:
            read_image(data, limits=limits)
        assert caught.value.facts == facts


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="max_pixels must be at least 1"):
        ImageLimits(max_pixels=0)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"])
def test_half_a_file_is_corrupt_and_never_half_a_picture(format: str) -> None:
    data = file_bytes(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), format)
    with pytest.raises(ImageCorrupt):
        read_image(data[: len(data) // 2])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns about some damage before it gives up
@pytest.mark.parametrize("format", LIBRARY_FORMATS)
def test_damaged_bytes_give_a_picture_or_a_typed_error(format: str) -> None:
    good = file_bytes(photo(), format)
    rng = np.random.default_rng(1)
    refused = 0
    for trial in range(150):
        bad = bytearray(good if trial % 2 else good[: rng.integers(1, len(good))])
        for place in rng.integers(0, len(bad), size=1 + trial % 8):
            bad[place] = rng.integers(0, 256)
        try:
            pixels = read_image(bytes(bad), limits=ImageLimits(max_pixels=1_000_000))
        except ImageError:
            refused += 1
        else:
            assert pixels.dtype == np.uint8 and pixels.ndim == 3
    assert refused > 20


@pytest.mark.parametrize("format", WRITE_FORMATS)
def test_what_is_written_can_be_read(format: str) -> None:
    read = read_image(write_image(photo(), format), formats=SERVICE_FORMATS)
    assert psnr_db(read, photo()) > (90 if format == "png" else 30)


def test_lower_quality_gives_fewer_bytes() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for format in ("jpeg", "webp"):
        assert len(write_image(noise, format, quality=10)) < len(write_image(noise, format, quality=95))


def test_writing_refuses_what_is_no_picture() -> None:
    with pytest.raises(ValueError, match="format must be one of"):
        write_image(photo(), "gif")
    with pytest.raises(ValueError, match="uint8"):
        write_image(photo().astype(np.float32), "png")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="quality"):
        write_image(photo(), "jpeg", quality=0)
    with pytest.raises(ImageTooLarge, match="16383"):
        write_image(np.zeros((1, 16_384, 3), dtype=np.uint8), "webp")


def test_a_jpeg_of_a_thousand_scans_is_refused_before_they_are_decoded() -> None:
    out = BytesIO()
    Image.new("RGB", (64, 64)).save(out, "JPEG", progressive=True)
    whole = out.getvalue()
    last = whole.rindex(b"\xff\xda")
    scan = whole[last:-2]
    assert read_image(whole[:last] + scan * 20 + whole[-2:]).shape == (64, 64, 3)
    with pytest.raises(ImageCorrupt, match="may have 64 scans, got 1009"):
        read_image(whole[:last] + scan * 1000 + whole[-2:])


@pytest.mark.parametrize(
    ("kind", "head"),
    [(b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0\0\0"), (b"iCCP", b"none\0\0")],
    ids=["zTXt", "iTXt", "iCCP"],
)
def test_a_png_of_many_packed_texts_is_refused_before_they_are_unpacked(kind: bytes, head: bytes) -> None:
    rows = zlib.compress(bytes(8 * 9))
    text = png_chunk(kind, head + zlib.compress(bytes(2**20 - 1), 9))
    assert read_image(png(8, 8, 8, 0, rows, 3 * text)).shape == (8, 8, 3)
    tracemalloc.start()
    try:
        with pytest.raises(ImageCorrupt, match="may have 16 packed texts and profiles, got 60"):
            image_size(png(8, 8, 8, 0, rows, 60 * text))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
