"""Recipes: from a request into a picture's file and back, ours and other tools'."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Raster
from PIL.PngImagePlugin import PngInfo

from bot.core.errors import InvalidRequest
from bot.core.grammar import format_options, parse
from bot.core.options import Options
from bot.core.parameters import parse_parameters, write_parameters
from bot.core.permutations import unfold
from bot.core.pictures import alt_text, read_recipe, recipe_options, stamp
from bot.core.recipe import make_recipe, parse_recipe, write_recipe
from bot.core.request import JSON, ImageRequest
from bot.core.text import clean

FORMATS = ("PNG", "JPEG", "WEBP")
TRICKY = (
    "a red fox",
    "a fox\nin snow\n\nand ice",
    "a fox\nNegative prompt: ugly\nSteps: 3, Sampler: x, CFG scale: 1, Seed: 9, Size: 1x1",
    'she said "hi", {red, blue} \\ (fox:1.3) <lora:x:1> & 100%',
    "Füchse 狐 🦊 👩‍🎨 \U0001f1e9\U0001f1ea",
    "--steps 3 is not a flag here",
)
NS = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "ext": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "core": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
}


def picture(form: str = "PNG", side: int = 24) -> bytes:
    raster = Raster.linear_gradient("L").resize((side, side + 8)).convert("RGB")
    buffer = io.BytesIO()
    raster.save(buffer, form)
    return buffer.getvalue()


def recipe(prompt: str = "a red fox", negative: str = "", **changes: Any) -> Mapping[str, JSON]:
    asked: dict[str, Any] = {
        "width": 512,
        "height": 768,
        "steps": 20,
        "guidance_scale": 7.5,
        "seed": 41,
        "count": 4,
        "scheduler": "DPM++ 2M Karras",
        "model": "acme/sd-1.5",
        **changes,
    }
    request = ImageRequest(prompt=prompt, negative_prompt=negative, **asked)
    return make_recipe(
        request,
        index=1,
        seed=request.seed_of(1),
        backend="local:",
        model="",
        applied={"width": 128, "height": 192, "guidance_scale": 2.5},
        notes=["Enlarged from 128×192."],
        software="Fairbrush 0.1.0",
        created="2026-01-02T03:04:05+00:00",
    )


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    plain = picture()
    made = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return plain[:33] + made + plain[33:]


# --- round trips ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("prompt", TRICKY)
def test_recipe_survives_a_file_of_every_format(form: str, prompt: str) -> None:
    written = recipe(prompt, negative=prompt[::-1])
    found = read_recipe(stamp(picture(form), written))
    assert found is not None
    assert found.source == "fairbrush"
    assert found.recipe == written


@settings(max_examples=60)
@given(prompt=st.text(max_size=80), negative=st.text(max_size=40), form=st.sampled_from(FORMATS))
def test_any_text_survives_a_file(prompt: str, negative: str, form: str) -> None:
    written = recipe(prompt, negative)
    found = read_recipe(stamp(picture(form), written))
    assert found is not None
    assert found.recipe == written


@pytest.mark.parametrize("form", FORMATS)
def test_longest_prompts_fit_into_every_format(form: str) -> None:
    written = recipe("🦊" * 2000, negative="<&" * 1000)
    found = read_recipe(stamp(picture(form), written))
    assert found is not None
    assert found.recipe == written


def test_recipe_too_long_for_a_jpeg_still_leaves_the_synthetic_mark() -> None:
    data = stamp(picture("JPEG"), recipe("🦊" * 60_000))
    assert b"trainedAlgorithmicMedia" in data
    Raster.open(io.BytesIO(data)).load()


@pytest.mark.parametrize("prompt", TRICKY)
def test_options_of_a_recipe_make_the_one_picture_again(prompt: str) -> None:
    options = recipe_options(recipe(prompt, negative="blurry, {a, b}"))
    assert (options.count, options.seed, options.width, options.height) == (1, 42, 512, 768)
    assert (options.steps, options.guidance_scale, options.scheduler) == (20, 7.5, "DPM++ 2M Karras")
    assert unfold(options.prompt) == (clean(prompt),)


@pytest.mark.parametrize("prompt", TRICKY)
def test_options_of_a_recipe_can_be_sent_as_a_command(prompt: str) -> None:
    options = recipe_options(recipe(prompt, negative=prompt))
    assert parse(format_options(options)) == options


def test_strength_and_applied_values_are_kept_apart_from_what_was_asked() -> None:
    written = recipe(strength=0.6)
    assert recipe_options(written).strength == 0.6
    assert recipe_options(written).guidance_scale == 7.5
    assert written["applied"] == {"width": 128, "height": 192, "guidance_scale": 2.5}


# --- our JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"fairbrush": 2},
        {"prompt": None},
        {"prompt": ["a"]},
        {"steps": "20"},
        {"steps": True},
        {"seed": 1.5},
        {"guidance_scale": None},
        {"negative_prompt": None},
        {"applied": []},
        {"applied": {"a": [[[[[[1]]]]]]}},
        {"notes": "x"},
        {"notes": [1]},
    ],
)
def test_recipe_with_a_wrong_field_is_none(changes: dict[str, JSON]) -> None:
    assert parse_recipe(json.dumps({**recipe(), **changes})) is None


def test_recipe_keeps_known_fields_alone() -> None:
    found = parse_recipe(json.dumps({**recipe(), "evil": 1}))
    assert found == recipe()


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "[" * 200_000, '{"fairbrush":NaN}', "1" * 5000, "\ud800"]
)
def test_what_is_no_recipe_is_none(text: str) -> None:
    assert parse_recipe(text) is None


def test_broken_json_falls_back_to_the_parameters() -> None:
    data = png_with((b"tEXt", b"fairbrush\0{"), (b"tEXt", b"parameters\0a cat\nSteps: 5, Seed: 3"))
    found = read_recipe(data)
    assert found is not None
    assert (found.source, found.options.prompt, found.options.seed) == ("parameters", "a cat", 3)
    assert found.recipe == {}


# --- A1111's text -----------------------------------------------------------------------------------------


def test_written_text_has_the_published_format() -> None:
    assert write_parameters(recipe("a red fox\nin snow", "blurry", strength=0.6)) == (
        "a red fox\nin snow\n"
        "Negative prompt: blurry\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 512x768, "
        "Model: acme/sd-1.5, Denoising strength: 0.6, Version: Fairbrush 0.1.0"
    )


def test_text_without_negative_prompt_and_defaults_leaves_their_fields_out() -> None:
    text = write_parameters(recipe(scheduler=None, model=None, guidance_scale=7.0))
    assert text == "a red fox\nSteps: 20, CFG scale: 7, Seed: 42, Size: 512x768, Version: Fairbrush 0.1.0"


@pytest.mark.parametrize("prompt", TRICKY)
def test_a_prompt_cannot_pose_as_the_structure_of_the_text(prompt: str) -> None:
    text = write_parameters(recipe(prompt, negative=prompt))
    assert text.count("Negative prompt:") == 1
    assert text.count("Steps:") == 1
    read = parse_parameters(text)
    assert (read.steps, read.seed, read.width, read.height, read.guidance_scale) == (20, 42, 512, 768, 7.5)
    assert read.scheduler == "DPM++ 2M Karras"
    assert read.negative_prompt is not None


def test_values_with_commas_or_colons_are_quoted_and_read_back() -> None:
    text = write_parameters(recipe(model='a "b", c: d'))
    assert 'Model: "a \\"b\\", c: d"' in text
    assert parse_parameters(text).model == 'a "b", c: d'


def test_a_foreign_text_is_read() -> None:
    found = parse_parameters(
        "masterpiece, (fox:1.2),\nin snow\nNegative prompt: lowres,\nblurry\n"
        "Steps: 28, Sampler: Euler a, Schedule type: Automatic, CFG scale: 6.5, Seed: 1234567890, "
        'Size: 832x1216, Model hash: 6ce0161689, Model: dream_v8, Lora hashes: "a: 1, b: 2", Version: v1.10.1'
    )
    assert found == Options(
        prompt="masterpiece, (fox:1.2),\nin snow",
        negative_prompt="lowres,\nblurry",
        width=832,
        height=1216,
        steps=28,
        guidance_scale=6.5,
        seed=1234567890,
        count=1,
        scheduler="Euler a",
        model="dream_v8",
    )


def test_old_sampler_names_and_lines_behind_the_settings_are_understood() -> None:
    found = parse_parameters("a cat\nSteps: 20, Sampler: DPM++ SDE Karras, Seed: 1\nTemplate: a {cat|dog}")
    assert (found.prompt, found.scheduler, found.seed) == ("a cat", "DPM++ SDE Karras", 1)


def test_the_last_separator_parts_a_foreign_text() -> None:
    found = parse_parameters(
        "a cat\nNegative prompt: in the prompt\nNegative prompt: dog\nSteps: 20, Seed: 1"
    )
    assert found.prompt == "a cat\nNegative prompt: in the prompt"
    assert found.negative_prompt == "dog"


def test_separator_within_a_line_is_prose() -> None:
    found = parse_parameters("a sign that says Negative prompt: no\nSteps: 20, Seed: 1")
    assert (found.prompt, found.negative_prompt) == ("a sign that says Negative prompt: no", None)


@pytest.mark.parametrize("text", ["just words", "one: two", "", "\n\n", "Negative prompt:"])
def test_text_without_settings_is_a_prompt(text: str) -> None:
    found = parse_parameters(text)
    assert found.steps is None
    assert found.seed is None


def test_malformed_values_are_left_unsaid() -> None:
    found = parse_parameters(
        "a cat\nSteps: 20, CFG scale: nan, Seed: -1, Size: 5by5, Denoising strength: 0.3, Model: "
    )
    assert found == Options(prompt="a cat", steps=20, count=1)


def test_braces_of_a_foreign_prompt_are_no_permutations() -> None:
    found = parse_parameters("a {red, blue} cat\nSteps: 20, Seed: 1")
    assert unfold(found.prompt) == ("a {red, blue} cat",)


@given(st.text(max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    found = parse_parameters(text)
    assert "\x00" not in found.prompt


@pytest.mark.parametrize(
    "unit", ['a:"', "a: b,", "x", 'a: "\\",', "Negative prompt:\n", "Steps: 1\n", "a b", " "]
)
def test_reading_a_long_text_takes_linear_time(unit: str) -> None:
    # A quadratic reader would take minutes and run into the suite's limit.
    parse_parameters(unit * (100_000 // len(unit)) + "\nx: 1, y: 2, z: 3")


# --- in the file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_stamping_leaves_the_pixels_alone(form: str) -> None:
    before = picture(form)
    after = stamp(before, recipe())
    assert Raster.open(io.BytesIO(after)).tobytes() == Raster.open(io.BytesIO(before)).tobytes()
    assert Raster.open(io.BytesIO(after)).size == (24, 32)


@pytest.mark.parametrize("form", FORMATS)
def test_stamping_twice_is_stamping_once(form: str) -> None:
    once = stamp(picture(form), recipe())
    assert stamp(once, recipe()) == once


def test_png_texts_stand_before_the_pixels_where_other_readers_look() -> None:
    data = stamp(picture(), recipe("Füchse 🦊"))
    raster = Raster.open(io.BytesIO(data))  # reads up to the first IDAT
    assert isinstance(raster.info["parameters"], str)
    assert raster.info["parameters"].startswith("Füchse 🦊\nSteps: 20")
    assert json.loads(raster.info["fairbrush"])["prompt"] == "Füchse 🦊"
    assert data.index(b"IDAT") > data.index(b"XML:com.adobe.xmp")


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_user_comment_holds_the_parameters_as_other_tools_expect(form: str) -> None:
    data = stamp(picture(form), recipe("Füchse 🦊"))
    comment = Raster.open(io.BytesIO(data)).getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0"
    assert comment[8:].decode("utf-16-be") == write_parameters(recipe("Füchse 🦊"))


@pytest.mark.parametrize("form", FORMATS)
def test_xmp_marks_the_picture_as_synthetic(form: str) -> None:
    data = stamp(picture(form), recipe("<b>a fox</b> & \x01 cat ]]> \ud800"))
    packet = Raster.open(io.BytesIO(data)).info["xmp"]
    root = ElementTree.fromstring(packet)  # noqa: S314 - our own packet
    source = root.find(".//ext:DigitalSourceType", NS)
    assert source is not None
    assert source.text == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert root.findtext(".//xmp:CreatorTool", namespaces=NS) == "Fairbrush 0.1.0"
    alt = root.find(".//core:AltTextAccessibility/rdf:Alt/rdf:li", NS)
    assert alt is not None
    assert alt.text == "Generated picture: a fox & cat"
    assert alt.get("{http://www.w3.org/XML/1998/namespace}lang") == "x-default"


def test_other_texts_of_a_backend_are_dropped() -> None:
    info = PngInfo()
    info.add_text("parameters", "theirs")
    info.add_text("workflow", "/home/somebody/secret")
    buffer = io.BytesIO()
    Raster.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    data = stamp(buffer.getvalue(), recipe())
    assert b"secret" not in data
    assert b"theirs" not in data


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iTXt compressed"])
def test_parameters_are_read_from_every_kind_of_png_text(kind: str) -> None:
    info = PngInfo()
    text = "a café\nSteps: 5, Seed: 3"
    if kind.startswith("iTXt"):
        info.add_itxt("parameters", text, "en", "x", zip=kind.endswith("compressed"))
    else:
        info.add_text("parameters", text, zip=kind == "zTXt")
    buffer = io.BytesIO()
    Raster.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    found = read_recipe(buffer.getvalue())
    assert found is not None
    assert (found.options.prompt, found.options.seed, found.text) == ("a café", 3, text)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "ascii"])
def test_parameters_are_read_from_exif_of_either_byte_order(form: str, encoding: str) -> None:
    text = "a cat\nSteps: 5, Seed: 3"
    code = b"ASCII\0\0\0" if encoding == "ascii" else b"UNICODE\0"
    exif = Raster.Exif()
    exif.get_ifd(0x8769)[0x9286] = code + text.encode(encoding)
    buffer = io.BytesIO()
    Raster.new("RGB", (8, 8)).save(buffer, form, exif=exif.tobytes())
    found = read_recipe(buffer.getvalue())
    assert found is not None
    assert found.text == text


def test_recipe_is_read_where_another_tool_wrote_the_packet_anew() -> None:
    # XMP allows a simple property as an attribute too, and exiftool and others write it so.
    value = write_recipe(recipe()).replace("&", "&amp;").replace('"', "&quot;")
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:f="urn:fairbrush:recipe:1:" f:recipe="{value}"/></rdf:RDF></x:xmpmeta>'
    )
    buffer = io.BytesIO()
    Raster.new("RGB", (8, 8)).save(buffer, "WEBP", xmp=packet.encode())
    found = read_recipe(buffer.getvalue())
    assert found is not None
    assert found.recipe == recipe()


def test_a_picture_without_recipe_has_none() -> None:
    assert [read_recipe(picture(form)) for form in FORMATS] == [None, None, None]


# --- hostile files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_decompression_bombs_are_not_inflated(kind: bytes) -> None:
    bomb = zlib.compress(b"a" * 20_000_000, 9)
    head = b"parameters\0\0" if kind == b"zTXt" else b"parameters\0\1\0\0\0"
    assert read_recipe(png_with((kind, head + bomb))) is None


def test_xml_bombs_are_not_expanded() -> None:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "boom"}">' for i in range(12))
    packet = f'<!DOCTYPE x [{entities}]><x xmlns:f="urn:fairbrush:recipe:1:"><f:recipe>&e11;</f:recipe></x>'
    buffer = io.BytesIO()
    Raster.new("RGB", (8, 8)).save(buffer, "WEBP", xmp=packet.encode())
    assert read_recipe(buffer.getvalue()) is None


def test_a_recipe_in_a_file_cut_short_is_still_read() -> None:
    data = stamp(picture(side=200), recipe())
    found = read_recipe(data[: data.index(b"IDAT") + 30])
    assert found is not None
    assert found.recipe == recipe()


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="PNG, JPEG or WebP"):
        read_recipe(b"hello")


@settings(max_examples=300)
@given(form=st.sampled_from(FORMATS), data=st.data())
def test_no_damage_to_a_file_raises_anything_but_invalid_request(form: str, data: st.DataObject) -> None:
    stamped = bytearray(stamp(picture(form), recipe("a fox\nin snow")))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(stamped) - 1))
        stamped[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
        if not stamped:
            break
    with contextlib.suppress(InvalidRequest):
        found = read_recipe(bytes(stamped))
        assert found is None or found.options.count == 1


# --- alt text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "spoken"),
    [
        ("a red fox", "Generated picture: a red fox"),
        ("", "Generated picture"),
        (
            "**bold** `code` <@123> <lora:x:1> [link](u)\n\x00\u202efox",
            "Generated picture: bold code link (u) fox",
        ),
    ],
)
def test_alt_text_is_one_line_without_markup(prompt: str, spoken: str) -> None:
    assert alt_text(prompt) == spoken


def test_alt_text_counts_pictures_and_keeps_the_platforms_limit() -> None:
    assert alt_text("x", index=1, count=4) == "Generated picture 2 of 4: x"
    assert len(alt_text("word " * 1000)) <= 1000


# --- upscales ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_the_recipe_of_an_upscale_makes_the_picture_that_it_was_made_from(form: str) -> None:
    told = recipe(upscale=True, strength=0.35, source="7K2QABCD #2", width=1024, height=1536)
    found = read_recipe(stamp(picture(form), told))
    assert found is not None
    assert found.recipe == told
    assert (told["width"], told["upscale"], told["source"]) == (1024, True, "7K2QABCD #2")
    options = found.options
    assert (options.width, options.height, options.strength, options.seed) == (512, 768, None, 42)
    assert not options.upscale


def test_other_tools_read_an_upscale_as_their_own_second_pass() -> None:
    text = write_parameters(recipe(upscale=True, strength=0.35, width=1024, height=1536))
    settings_line = text.splitlines()[-1]
    assert "Size: 512x768" in settings_line
    assert "Denoising strength: 0.35, Hires upscale: 2" in settings_line
    options = parse_parameters(text)
    assert (options.width, options.height, options.strength) == (512, 768, None)


def test_what_is_no_upscale_says_nothing_of_it() -> None:
    told = recipe(strength=0.55, source="7K2QABCD")
    assert "upscale" not in told
    assert told["source"] == "7K2QABCD"
    assert "Hires" not in write_parameters(told)
    assert not {"upscale", "source", "strength"} & set(recipe())


@pytest.mark.parametrize("value", [1, "yes", None, []])
def test_an_upscale_mark_of_a_wrong_type_is_no_recipe(value: JSON) -> None:
    assert parse_recipe(write_recipe({**recipe(), "upscale": value})) is None
