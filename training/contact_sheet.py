"""A sheet of pictures, each with its caption below."""

from __future__ import annotations

import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SHOWN: tuple[str, ...] = (
    "a red circle on a blue background",
    "a yellow star on a black background",
    "a large pink heart on a white background",
    "a small green square at the top on an orange background",
    "a purple ring on the left on a gray background",
    "a cyan diamond on a brown background",
    "a white cross at the bottom on a red background",
    "an orange triangle above a blue square",
    "a red heart left of a yellow ring on a black background",
    "a green circle below a white star on a purple background",
    "a red house and a tree on a sunny day",
    "a sailboat on the sea at sunset with the sun",
    "snowy mountains under a starry night sky with the moon",
    "green hills at sunset with the sun over the sea",
    "a sunny beach with a boat",
    "a red house and a tree under a starry night sky",
    "three trees on a green field with clouds",
    "a white house by the sea with mountains",
    "a yellow boat on the sea at night with the moon",
    "a blue house and a tree with hills and clouds",
)
SIDE, GAP, TEXT = 224, 16, 52
COLUMNS = 5


def write(path: Path, images: list[Image.Image], captions: list[str]) -> None:
    """Write the sheet as PNG, the pictures enlarged to SIDE pixels of their longer side."""
    rows = -(-len(images) // COLUMNS)
    width, height = COLUMNS * (SIDE + GAP) + GAP, rows * (SIDE + TEXT + GAP) + GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for i, (image, words) in enumerate(zip(images, captions, strict=True)):
        x = GAP + i % COLUMNS * (SIDE + GAP)
        y = GAP + i // COLUMNS * (SIDE + TEXT + GAP)
        scale = SIDE / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        sheet.paste(image.resize(size, Image.Resampling.BICUBIC), (x, y))
        pen.rectangle((x, y, x + size[0], y + size[1]), outline=(205, 205, 205))
        pen.multiline_text((x, y + SIDE + 4), textwrap.fill(words, 33), fill=(40, 40, 40), font=font)
    sheet.save(path, optimize=True)
