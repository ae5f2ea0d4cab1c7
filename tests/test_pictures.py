"""Pictures: what is let in, and the forms in which ours go out."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import threading
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Raster
from PIL import ImageDraw

from bot.core.errors import InvalidRequest, ProtocolError, Refused
from bot.core.pictures import (
    as_type,
    check_image,
    contact_sheet,
    exact_size,
    fit_to_bytes,
    is_picture_name,
    mime_of,
    picture_name,
    read_recipe,
    size_of,
    stamp,
    thumbnail,
    write_file,
)
from bot.core.request import JSON, Limits

LIMITS = Limits()
FORMATS = ("PNG", "JPEG", "WEBP")
MIMES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
RECIPE: dict[str, JSON] = {
    "fairbrush": 1,
    "prompt": "a red fox",
    "negative_prompt": "",
    "width": 64,
    "height": 64,
    "steps": 20,
    "guidance_scale": 7.5,
    "seed": 1,
    "software": "Fairbrush 0.1.0",
}


def encoded(raster: Raster.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    raster.save(buffer, form, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Raster.Image:
    raster = Raster.open(io.BytesIO(data))
    raster.load()
    return raster


def scene(width: int = 48, height: int = 32, mode: str = "RGB") -> Raster.Image:
    """Left half red, right half blue, a white corner at the top left."""
    raster = Raster.new("RGB", (width, height), (200, 0, 0))
    draw = ImageDraw.Draw(raster)
    draw.rectangle((width // 2, 0, width, height), fill=(0, 0, 200))
    draw.rectangle((0, 0, width // 6, height // 4), fill=(255, 255, 255))
    return raster.convert(mode)


def noise(width: int, height: int) -> Raster.Image:
    return Raster.frombytes("RGB", (width, height), random.Random(7).randbytes(width * height * 3))


def forged_png(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


# --- coming in --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_a_plain_picture_is_taken_as_it_is(form: str) -> None:
    data = encoded(scene(), form)
    image = check_image(data, limits=LIMITS)
    assert (image.mime, image.width, image.height) == (MIMES[form], 48, 32)
    assert decoded(image.data).tobytes() == decoded(data).tobytes()


def test_fifty_thousand_pixels_square_are_refused_from_the_header_alone() -> None:
    with pytest.raises(InvalidRequest, match=r"50,000 × 50,000 .* at most 16,777,216 .* smaller") as refused:
        check_image(forged_png(50_000, 50_000), limits=LIMITS)
    assert refused.value.field == "image"


def test_a_large_canvas_around_a_small_webp_is_refused() -> None:
    plain = encoded(scene(), "WEBP")
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16_000).to_bytes(3, "little") * 2
    content = b"WEBP" + canvas + plain[12:]
    data = b"RIFF" + struct.pack("<I", len(content)) + content
    with pytest.raises(InvalidRequest, match="16,001 × 16,001"):
        check_image(data, limits=LIMITS)
    with pytest.raises(InvalidRequest, match="damaged"):
        check_image(data, limits=Limits(max_image_pixels=10**9))


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"over 20 MB\. Send a smaller one"):
        check_image(b"\x89PNG" + bytes(20 * 1024**2), limits=LIMITS)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.999])
def test_truncated_pictures_are_refused(form: str, part: float) -> None:
    data = encoded(noise(64, 64), form)
    with pytest.raises(InvalidRequest, match=r"damaged or incomplete\. Save it again"):
        check_image(data[: int(len(data) * part)], limits=LIMITS)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("other", [b"PK\x03\x04 a zip", b"<script>alert(1)</script>", b"%PDF-1.7"])
def test_a_picture_with_another_file_behind_it_is_refused(form: str, other: bytes) -> None:
    with pytest.raises(InvalidRequest, match="more than a picture"):
        check_image(encoded(scene(), form) + other, limits=LIMITS)


@pytest.mark.parametrize("form", FORMATS)
def test_another_file_within_comments_does_not_come_along(form: str) -> None:
    exif = Raster.Exif()
    exif[0x010E] = "<?php secret place"
    image = check_image(encoded(scene(), form, exif=exif.tobytes()), limits=LIMITS)
    assert b"secret" not in image.data


def test_a_second_view_behind_a_phones_jpeg_is_dropped() -> None:
    first = encoded(scene(), "JPEG")
    assert check_image(first + encoded(noise(32, 32), "JPEG"), limits=LIMITS).data == first


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf <?xml version='1.0'?><svg/>", "SVG"),
        (b"GIF89a" + bytes(20), "GIF"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "HEIC"),
        (b"BM" + bytes(60), "not a PNG, JPEG or WebP"),
        (b"<html>", "not a PNG, JPEG or WebP"),
    ],
)
def test_other_files_are_refused_by_name_with_the_way_out(data: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"{says}.*Save it again as a PNG, JPEG or WebP"):
        check_image(data, limits=LIMITS)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_animations_are_refused(form: str) -> None:
    frames = [noise(16, 16), scene(16, 16)]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidRequest, match="animated"):
        check_image(data, limits=LIMITS)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    exif = Raster.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(), form, exif=exif.tobytes())
    image = check_image(data, limits=LIMITS)
    raster = decoded(image.data)
    assert (image.width, image.height) == raster.size == ((48, 32) if orientation < 5 else (32, 48))
    assert not raster.getexif()
    # The white corner is at the top left of the stored pixels; each orientation names where that is shown.
    right, bottom = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    corner = (raster.width - 2 if right else 1, raster.height - 2 if bottom else 1)
    pixel = raster.convert("RGB").getpixel(corner)
    assert isinstance(pixel, tuple)
    assert min(pixel) > 200


@pytest.mark.parametrize(
    ("mode", "form", "becomes"),
    [
        ("P", "PNG", "RGB"),
        ("1", "PNG", "RGB"),
        ("LA", "PNG", "RGBA"),
        ("I;16", "PNG", "L"),
        ("CMYK", "JPEG", "RGB"),
        ("RGBA", "PNG", "RGBA"),
        ("L", "JPEG", "L"),
    ],
)
def test_unusual_pixels_become_usual_ones(mode: str, form: str, becomes: str) -> None:
    raster = scene().convert("L").convert("I;16") if mode == "I;16" else scene(mode=mode)
    image = check_image(encoded(raster, form), limits=LIMITS)
    assert decoded(image.data).mode == becomes


@pytest.mark.parametrize("lossless", [True, False])
def test_transparency_and_colour_profile_of_a_webp_are_kept(lossless: bool) -> None:
    clear = scene().convert("RGBA")
    clear.putalpha(100)
    data = encoded(clear, "WEBP", lossless=lossless, icc_profile=b"profile " * 20)
    kept = decoded(stamp(check_image(data, limits=LIMITS).data, RECIPE))
    assert kept.tobytes() == decoded(data).tobytes()
    assert kept.info["icc_profile"] == b"profile " * 20


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    raster = Raster.new("I;16", (8, 8), 32_896)
    image = check_image(encoded(raster), limits=LIMITS)
    assert decoded(image.data).getpixel((0, 0)) == 128


@settings(max_examples=300)
@given(form=st.sampled_from(FORMATS), data=st.data())
def test_no_damage_raises_anything_but_invalid_request(form: str, data: st.DataObject) -> None:
    exif = Raster.Exif()
    exif[0x0112] = 6
    damaged = bytearray(encoded(scene(), form, exif=exif.tobytes()))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
        if not damaged:
            break
    if form == "PNG":
        _mend_checksums(damaged)  # or no damage would ever get past them
    with contextlib.suppress(InvalidRequest):
        image = check_image(bytes(damaged), limits=LIMITS)
        assert decoded(image.data).size == (image.width, image.height)


@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x40\0\0\0WEBP"]),
)
def test_no_bytes_raise_anything_but_invalid_request(data: bytes, start: bytes) -> None:
    with pytest.raises(InvalidRequest):
        check_image(start + data, limits=LIMITS)


def _mend_checksums(data: bytearray) -> None:
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        if end + 4 > len(data):
            return
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4


# --- a backend's answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_of_the_right_size_is_not_touched(form: str) -> None:
    data = encoded(scene(64, 64), form)
    assert exact_size(data, 64, 64) == data


@pytest.mark.parametrize("size", [(96, 64), (512, 512), (24, 16), (100, 37)])
def test_other_sizes_are_scaled_to_exactly_what_was_asked(size: tuple[int, int]) -> None:
    data = exact_size(encoded(scene(48, 32), "JPEG"), *size)
    assert (mime_of(data), decoded(data).size) == ("image/png", size)


def test_another_ratio_is_cut_evenly_and_not_stretched() -> None:
    circle = Raster.new("RGB", (300, 100))
    ImageDraw.Draw(circle).ellipse((100, 0, 199, 99), fill=(255, 255, 255))
    box = (
        decoded(exact_size(encoded(circle), 200, 200)).convert("L").point(lambda v: 255 * (v > 128)).getbbox()
    )
    assert box is not None
    left, top, right, bottom = box
    assert abs((right - left) - (bottom - top)) <= 2
    assert abs(left - (200 - right)) <= 2


@pytest.mark.parametrize("data", [b"", b"<html>502 Bad Gateway</html>", encoded(noise(64, 64))[:2000]])
def test_a_backends_answer_that_is_no_picture_is_its_fault(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a picture"):
        exact_size(data, 64, 64)


def test_a_backends_answer_of_absurd_size_is_not_decoded() -> None:
    with pytest.raises(ProtocolError):
        exact_size(forged_png(60_000, 60_000), 64, 64)


# --- going out --------------------------------------------------------------------------------------------


def test_a_picture_that_fits_goes_out_as_it_is() -> None:
    data = stamp(encoded(scene()), RECIPE)
    assert fit_to_bytes(data, len(data)) == (data, "image/png")


@pytest.mark.parametrize("mime", ["image/webp", "image/jpeg"])
@pytest.mark.parametrize("limit", [60_000, 20_000, 6_000])
def test_a_large_picture_is_fitted_with_its_recipe_and_mark(mime: str, limit: int) -> None:
    data = stamp(encoded(noise(256, 192)), RECIPE)
    fitted, became = fit_to_bytes(data, limit, mime=mime)
    assert len(fitted) <= limit < len(data)
    assert became == mime == mime_of(fitted)
    found = read_recipe(fitted)
    assert found is not None
    assert found.recipe == RECIPE
    assert b"trainedAlgorithmicMedia" in fitted
    assert b"Generated picture: a red fox" in fitted
    assert decoded(fitted).width / decoded(fitted).height == pytest.approx(256 / 192, rel=0.05)


def test_quality_is_given_up_before_size() -> None:
    data = stamp(encoded(noise(128, 128)), RECIPE)
    assert decoded(fit_to_bytes(data, len(data) // 3)[0]).size == (128, 128)


def test_transparency_goes_onto_white_in_a_jpeg() -> None:
    clear = noise(96, 96).convert("RGBA")
    clear.putalpha(0)
    fitted, _ = fit_to_bytes(encoded(clear), 5_000, mime="image/jpeg")
    assert decoded(fitted).convert("RGB").getpixel((40, 40)) == (255, 255, 255)


def test_an_impossible_limit_is_refused() -> None:
    with pytest.raises(Refused, match="100 bytes"):
        fit_to_bytes(stamp(encoded(noise(128, 128)), RECIPE), 100)


@pytest.mark.parametrize("size", [(400, 100), (100, 400), (50, 50)])
def test_a_thumbnail_keeps_ratio_recipe_and_limit(size: tuple[int, int]) -> None:
    small = thumbnail(stamp(encoded(noise(*size)), RECIPE), 80)
    width, height = size_of(small)
    assert max(width, height) == min(80, max(size))
    assert width / height == pytest.approx(size[0] / size[1], rel=0.1)
    assert read_recipe(small) is not None


@pytest.mark.parametrize("count", range(1, 11))
def test_a_contact_sheet_shows_every_picture_in_reading_order(count: int) -> None:
    greys = [20 * (index + 1) for index in range(count)]
    sheet = contact_sheet([encoded(Raster.new("L", (320, 160), grey)) for grey in greys])
    raster = decoded(sheet).convert("L")
    assert max(raster.size) <= 512
    assert b"trainedAlgorithmicMedia" in sheet
    columns = next(n for n in range(1, 5) if n * n >= count)
    rows = -(-count // columns)
    for index, grey in enumerate(greys):
        row, column = divmod(index, columns)
        at = (int(raster.width * (column + 0.5) / columns), int(raster.height * (row + 0.5) / rows))
        shown = raster.getpixel(at)
        assert isinstance(shown, int | float)
        assert abs(shown - grey) <= 3


def test_pictures_of_several_kinds_share_a_sheet() -> None:
    mixed = [encoded(scene(mode="RGBA")), encoded(scene(64, 200), "JPEG"), encoded(scene(mode="P"))]
    assert max(size_of(contact_sheet(mixed, max_side=200))) <= 200


# --- on disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mime", MIMES.values())
def test_names_are_fresh_and_recognised(mime: str) -> None:
    names = {picture_name(mime) for _ in range(100)}
    assert len(names) == 100
    assert all(is_picture_name(name) for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "a" * 32,
        "a" * 32 + ".svg",
        "a" * 31 + ".png",
        "a" * 31 + "/.png",
        "é" * 32 + ".png",
        "a" * 32 + ".png\n",
        "/" + "a" * 32 + ".png",
    ],
)
def test_other_names_are_not_picture_names(name: str) -> None:
    assert not is_picture_name(name)


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_file(tmp_path / "a.png", b"one")
    write_file(tmp_path / "a.png", b"two")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"two")]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "a.png", b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_file(tmp_path / "a.png", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.png", b"old")]


def test_file_and_folder_are_synced_around_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def syncing(handle: int) -> None:
        seen.append("sync")
        fsync(handle)

    def renaming(old: Path, new: Path) -> None:
        seen.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", renaming)
    write_file(tmp_path / "a.png", b"x")
    assert seen == ["sync", "rename", "sync"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.png", {bytes([n]) * 100_000 for n in range(10)}
    write_file(path, min(whole))

    def write() -> None:
        for data in whole:
            write_file(path, data)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert path.read_bytes() in whole
    writer.join()


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "image/webp"])
def test_a_picture_of_another_type_keeps_recipe_and_size(mime: str) -> None:
    picture = stamp(encoded(scene(96, 64)), RECIPE)
    made = as_type(picture, mime, quality=80)
    assert mime_of(made) == mime
    assert size_of(made) == (96, 64)
    assert (made == picture) is (mime == "image/png")
    found = read_recipe(made)
    assert found is not None
    assert found.recipe == RECIPE
