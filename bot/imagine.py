"""`fairbrush imagine` and `fairbrush recipe`: the whole way of a request, from and to a terminal.

imagine wires the same program as `run` does, with a console in place of the platforms and a folder of its
own, so that it works beside a running bot.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bot.app import build
from bot.core.errors import Fault, InvalidRequest
from bot.core.grammar import format_options
from bot.core.messages import progress_bar
from bot.core.pictures import read_recipe, recipe_options
from bot.core.ports import Adapter, Address, Conversation, JobStatus, Pace
from bot.core.request import ImageResult, Requester, State
from bot.core.settings import Settings
from bot.core.studio import Studio, Submission


class Console:
    """A platform with one conversation: progress on standard error, the result in `result`."""

    name = "console"
    pace = Pace(0.1, 10_000)

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._width = 0
        self.result: asyncio.Future[ImageResult] = asyncio.get_running_loop().create_future()

    def routes(self) -> Sequence[object]:
        """None."""
        return ()

    async def run(self, studio: Studio) -> None:
        """Nothing to serve."""

    def conversation(self, address: Address) -> Conversation:
        """The terminal."""
        return self

    async def aclose(self) -> None:
        """Leave the line clean."""
        self._line("")

    async def prepare(self, store: Callable[[Address], Awaitable[None]]) -> Address:
        """A terminal is always there."""
        return {}

    async def show(self, status: JobStatus) -> None:
        """Draw the progress over itself."""
        if status.state is State.RUNNING and status.progress is not None:
            self._line(progress_bar(status.progress))

    async def deliver(self, result: ImageResult) -> None:
        """Hand the result to the command."""
        self._line("")
        if not self.result.done():
            self.result.set_result(result)

    def _line(self, text: str) -> None:
        if self._quiet or (not text and not self._width):
            return
        sys.stderr.write("\r" + text.ljust(self._width) + ("" if text else "\r"))
        sys.stderr.flush()
        self._width = len(text)


async def imagine(
    settings: Settings,
    prompt: str,
    *,
    output: Path | None,
    image: Path | None,
    mask: Path | None,
    as_json: bool,
) -> int:
    """Make what `prompt` says and save it. Returns 0; raises a Refusal or, on failure, a Fault."""
    console = Console(quiet=not sys.stderr.isatty())
    with tempfile.TemporaryDirectory(prefix="fairbrush-") as folder:
        own = dataclasses.replace(settings, data_dir=Path(folder), database_url="")
        app = build(own, adapters=[_adapter(console)], serve=False)
        try:
            await app.start()
            await app.studio.submit(
                Submission(
                    Requester("console", "console", "console"),
                    "console",
                    {},
                    text=prompt,
                    init_image=_read(image, "--image"),
                    mask_image=_read(mask, "--mask"),
                )
            )
            result = await console.result
            return _save(result, output, as_json=as_json)
        finally:
            await app.aclose()


def _adapter(console: Console) -> Adapter:
    return console


def _read(path: Path | None, option: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(
            f"{option}: {path} cannot be read: {error.strerror}.", field="init_image"
        ) from None


def _save(result: ImageResult, output: Path | None, *, as_json: bool) -> int:
    if not result.pictures:
        raise Fault(result.message or "Nothing came back.", detail=result.reference)
    paths = _paths(output, result)
    for picture, path in zip(result.pictures, paths, strict=True):
        try:
            shutil.copyfile(picture.path, path)
        except OSError as error:
            raise InvalidRequest(f"-o: {path} cannot be written: {error.strerror}.", field="output") from None
    for note in result.notes:
        print(note, file=sys.stderr)
    if result.message:
        print(result.message, file=sys.stderr)
    if as_json:
        recipes = [{"file": str(path), **p.recipe} for p, path in zip(result.pictures, paths, strict=True)]
        print(json.dumps(recipes[0] if len(recipes) == 1 else recipes, indent=2, ensure_ascii=False))
    else:
        print("\n".join(str(path) for path in paths))
    return 0


def _paths(output: Path | None, result: ImageResult) -> list[Path]:
    """-o as it is for one picture, numbered for several; else named after the prompt, never over a file."""
    count = len(result.pictures)
    if output is not None:
        if count == 1:
            return [output]
        return [output.with_name(f"{output.stem}-{n}{output.suffix}") for n in range(1, count + 1)]
    slug = re.sub(r"[^a-z0-9]+", "-", result.prompt.lower()).strip("-")[:48].strip("-") or "picture"
    return [_unused(Path(f"{slug}-{picture.seed}.png")) for picture in result.pictures]


def _unused(path: Path) -> Path:
    names = (path.with_stem(f"{path.stem}-{n}") if n > 1 else path for n in range(1, 10_000))
    return next(name for name in names if not name.exists())


def show_recipe(file: Path, *, as_json: bool) -> int:
    """Print the command that makes a picture again, or its recipe as JSON. Raises InvalidRequest."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}.", field="file") from None
    found = read_recipe(data)
    if found is None:
        raise InvalidRequest(
            f"{file} holds no recipe. Pictures keep theirs when they are sent as files, not re-saved.",
            field="file",
        )
    if as_json:
        print(json.dumps(found.recipe, indent=2, ensure_ascii=False))
    else:
        print(f"fairbrush imagine {shlex.quote(format_options(recipe_options(found.recipe)))}")
    return 0
