"""Picture files: results and input pictures, in one folder, written whole or not at all.

Everything CPU-bound or blocking runs in threads. Knows no store: callers name files in transactions after
they were written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bot.core import pictures
from bot.core.desk import LiveJob
from bot.core.ports import Done, ImageReady, StoredPicture
from bot.core.request import JSON, Image, ImageRequest, Limits, Picture


class Gallery:
    """The pictures folder. software: what recipes say the program is ("Fairbrush 0.1.0")."""

    def __init__(self, folder: Path, limits: Limits, software: str) -> None:
        self.folder = folder
        self._limits = limits
        self._software = software

    async def take_in(self, data: bytes | None) -> Image | None:
        """Check a picture that came in. Raises InvalidRequest."""
        if data is None:
            return None
        return await asyncio.to_thread(pictures.check_image, data, limits=self._limits)

    async def keep_inputs(self, request: ImageRequest) -> tuple[str | None, str | None]:
        """Write a request's input pictures; their file names, or None where there is none."""

        def write(image: Image | None) -> str | None:
            if image is None:
                return None
            name = pictures.picture_name(image.mime)
            pictures.write_file(self.folder / name, image.data)
            return name

        if request.init_image is None and request.mask_image is None:
            return None, None
        return await asyncio.to_thread(lambda: (write(request.init_image), write(request.mask_image)))

    def load_input(self, name: str) -> Image:
        """An input picture by its file name; blocking, for start-up."""
        return pictures.check_image((self.folder / name).read_bytes(), limits=self._limits)

    async def keep(self, job: LiveJob, done: Done, *, backend: str, now: float) -> tuple[StoredPicture, ...]:
        """Stamp a job's pictures with their recipes and write them, synced; in order of index."""
        images = [job.images[index] for index in sorted(job.images)]
        return await asyncio.to_thread(self._keep, job, images, done, backend, now)

    def _keep(
        self, job: LiveJob, images: Sequence[ImageReady], done: Done, backend: str, now: float
    ) -> tuple[StoredPicture, ...]:
        created = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        return tuple(self._keep_one(job, image, done, backend, created) for image in images)

    def _keep_one(
        self, job: LiveJob, image: ImageReady, done: Done, backend: str, created: str
    ) -> StoredPicture:
        request = job.request
        recipe = pictures.make_recipe(
            request,
            index=image.index,
            seed=image.seed,
            backend=backend,
            model=done.model,
            applied=done.applied,
            notes=done.notes,
            software=self._software,
            created=created,
        )
        data = pictures.exact_size(image.data, request.width, request.height)
        data = pictures.stamp(data, recipe)
        mime = pictures.mime_of(data)
        name = pictures.picture_name(mime)
        pictures.write_file(self.folder / name, data)
        return StoredPicture(
            name=name,
            index=image.index,
            mime=mime,
            width=request.width,
            height=request.height,
            seed=image.seed,
            alt_text=pictures.alt_text(request.prompt),
            recipe=recipe,
        )

    async def remove(self, names: Sequence[str]) -> None:
        """Delete files; names that are gone already do not matter."""

        def unlink() -> None:
            for name in names:
                (self.folder / name).unlink(missing_ok=True)

        await asyncio.to_thread(unlink)

    def picture(self, stored: StoredPicture) -> Picture:
        """A stored picture with its path."""
        recipe: Mapping[str, JSON] = stored.recipe
        return Picture(
            name=stored.name,
            index=stored.index,
            path=self.folder / stored.name,
            mime=stored.mime,
            width=stored.width,
            height=stored.height,
            seed=stored.seed,
            alt_text=stored.alt_text,
            recipe=recipe,
            withheld=stored.withheld,
        )
