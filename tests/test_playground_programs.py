"""The programs on the Playground's API tab, run for real: curl, Python and Node, in every format."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from bot.app import App, build, load_adapters
from bot.core.settings import Settings
from bot.keys import create_key
from tests.fakes.backend import FakeBackend

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATIC = Path(__file__).parents[1] / "adapters/web/static"
FORMATS = ("openai", "stochastic", "salad", "salad-beta")
LANGUAGES = ("curl", "python", "javascript")
ASKED = {
    "prompts": ['it\'s a "red" fox, 100 % naïve 🦊 $HOME `id` \\ ${x}'],
    "negative_prompt": "blurry",
    "width": 128,
    "height": 64,
    "steps": 4,
    "guidance_scale": 6.5,
    "seed": 77,
    "count": 2,
    "scheduler": "Euler a",
    "scheduler_class": "EulerAncestralDiscreteScheduler",
    "model": "fake",
}


@dataclass
class Served:
    """A running program that serves the APIs, its backend, and a key for it."""

    app: App
    backend: FakeBackend
    key: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    settings = Settings(tmp_path_factory.mktemp("data"), port=0)
    key = await create_key(settings, "a program")
    backend = FakeBackend(slots=4)
    app = build(settings, adapters=load_adapters(settings), backends=[backend])
    await app.start()
    yield Served(app, backend, key)
    await app.aclose()


async def run(*command: str, folder: Path, **environment: str) -> str:
    """What a program prints; it must succeed within a minute."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def written(folder: Path, server: str, *programs: tuple[str, str], **changes: Any) -> list[str]:
    """The programs of the API tab, by format and language, as snippets.js writes them."""
    shutil.copy(STATIC / "snippets.js", folder / "snippets.mjs")
    request = json.dumps({**ASKED, **changes})
    script = (
        "import { snippet } from './snippets.mjs';"
        f"console.log(JSON.stringify({json.dumps(programs)}.map(([format, language]) =>"
        f" snippet(format, language, '{server}', {request}))))"
    )
    texts: list[str] = json.loads(await run("node", "--input-type=module", "-e", script, folder=folder))
    return texts


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.skipif(not (shutil.which("node") and shutil.which("curl")), reason="node and curl are not here")
async def test_programs_in_every_language_save_the_pictures_that_were_asked_for(
    served: Served, tmp_path: Path, format_name: str
) -> None:
    programs = await written(tmp_path, served.app.url, *((format_name, language) for language in LANGUAGES))
    await asyncio.gather(*(saves(served, tmp_path, *one) for one in zip(LANGUAGES, programs, strict=True)))


async def saves(served: Served, folder: Path, language: str, program: str) -> None:
    """A program in this language leaves two pictures of the size asked for."""
    assert served.key not in program
    place = folder / language
    place.mkdir()
    before = len(served.backend.submitted)
    file = place / {"curl": "ask.sh", "python": "ask.py", "javascript": "ask.mjs"}[language]
    file.write_text(program, encoding="utf-8")
    command = {
        "curl": ("bash", str(file)),
        "python": (sys.executable, str(file)),
        "javascript": ("node", str(file)),
    }
    await run(*command[language], folder=place, FAIRBRUSH_KEY=served.key)
    for number in (1, 2):
        with Image.open(place / f"picture-{number}.png") as picture:
            assert picture.size == (128, 64)
    assert not (place / "picture-3.png").exists()
    (_, request) = next(one for one in served.backend.submitted[before:] if one[1].count == 2)
    assert (request.prompt, request.negative_prompt) == (ASKED["prompts"][0], "blurry")  # type: ignore[index]
    assert (request.steps, request.guidance_scale, request.seed) == (4, 6.5, 77)


async def test_the_key_is_named_and_never_shown(served: Served, tmp_path: Path) -> None:
    if not shutil.which("node"):
        pytest.skip("node is not here")
    every = [(format_name, language) for format_name in FORMATS for language in LANGUAGES]
    for program in await written(tmp_path, "http://127.0.0.1:1", *every, seed=None, scheduler=None):
        assert re.search(r"FAIRBRUSH_KEY", program)
        assert "null" not in program
        assert "None" not in program
