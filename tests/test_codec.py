"""Requests survive the store."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.codec import request_from_json, request_to_json
from bot.core.errors import NotFound, ProtocolError
from bot.core.request import JSON, MAX_SEED, Image, ImageRequest

PICTURES = {
    "a.png": Image(b"a", "image/png", 64, 64),
    "b.png": Image(b"b", "image/png", 64, 64),
}
REQUESTS = st.builds(
    ImageRequest,
    prompt=st.text(max_size=40),
    width=st.integers(64, 2048),
    height=st.integers(64, 2048),
    steps=st.integers(1, 150),
    guidance_scale=st.floats(0, 30),
    seed=st.integers(0, MAX_SEED),
    count=st.integers(1, 10),
    negative_prompt=st.text(max_size=20),
    scheduler=st.sampled_from([None, "Euler a"]),
    model=st.sampled_from([None, "sdxl"]),
    style=st.sampled_from([None, "oil"]),
    init_image=st.sampled_from([None, PICTURES["a.png"]]),
    mask_image=st.sampled_from([None, PICTURES["b.png"]]),
    strength=st.none() | st.floats(0, 1),
    spoiler=st.booleans(),
    upscale=st.booleans(),
    source=st.sampled_from(["", "7K2QABCD", "7K2QABCD #12"]),
    show_flagged=st.booleans(),
)
PLAIN = ImageRequest("x", 512, 512, 20, 7.5, 3)


@given(REQUESTS)
def test_a_request_survives_json(request: ImageRequest) -> None:
    text = json.dumps(request_to_json(request, image_names=("a.png", "b.png")))
    assert request_from_json(json.loads(text), load=PICTURES.__getitem__) == request


def test_only_names_of_pictures_are_stored() -> None:
    request = ImageRequest("x", 64, 64, 1, 1.0, 1, init_image=PICTURES["a.png"], strength=0.5)
    data = request_to_json(request, image_names=("a.png", None))
    assert data["init_image"] == "a.png"
    assert "mask_image" not in data
    with pytest.raises(ValueError, match="init_image has no file name"):
        request_to_json(request)


def test_a_newer_programs_row_is_read() -> None:
    assert request_from_json({**request_to_json(PLAIN), "later": [1]}, load=PICTURES.__getitem__) == PLAIN


@pytest.mark.parametrize(
    ("key", "value"),
    [("prompt", None), ("width", "512"), ("seed", 1.5), ("spoiler", "no"), ("init_image", 3)],
)
def test_a_damaged_row_is_a_clear_fault(key: str, value: JSON) -> None:
    with pytest.raises(ProtocolError) as caught:
        request_from_json({**request_to_json(PLAIN), key: value}, load=PICTURES.__getitem__)
    assert key in caught.value.detail


def test_a_lost_picture_is_the_loaders_error() -> None:
    def lost(name: str) -> Image:
        raise NotFound(f"{name} is gone")

    with pytest.raises(NotFound, match=r"a\.png is gone"):
        request_from_json({**request_to_json(PLAIN), "init_image": "a.png"}, load=lost)
