"""Picture files: results and input pictures, in one folder, written whole or not at all.

Everything CPU-bound or blocking runs in threads. Knows no store: callers name files in transactions after
they were written.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bot.core import pictures
from bot.core.desk import LiveJob
from bot.core.errors import InvalidRequest, Unavailable
from bot.core.ports import Done, ImageReady, StoredPicture
from bot.core.request import JSON, Image, ImageRequest, Limits, Picture

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


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
        """Write a request's input pictures; their file names, or None where there is none.

        Raises Unavailable where the disk is full.
        """
        images = (request.init_image, request.mask_image)
        names = [pictures.picture_name(image.mime) if image else None for image in images]
        files = [(name, image.data) for name, image in zip(names, images, strict=True) if name and image]
        if files:
            await asyncio.to_thread(self._write, files)
        return names[0], names[1]

    async def with_inputs(self, job: LiveJob) -> ImageRequest:
        """A job's request with the bytes of its input pictures. Raises InvalidRequest where one is gone."""
        if job.inputs == (None, None):
            return job.request
        init_image, mask_image = await asyncio.to_thread(lambda: [self._load(name) for name in job.inputs])
        return replace(job.request, init_image=init_image, mask_image=mask_image)

    def _load(self, name: str | None) -> Image | None:
        if name is None:
            return None
        try:
            return pictures.check_image((self.folder / name).read_bytes(), limits=self._limits)
        except OSError:
            raise InvalidRequest(
                "The picture to start from is gone. Attach it again.", field="init_image"
            ) from None

    def _write(self, files: Sequence[tuple[str, bytes]]) -> None:
        """All files or none of them. Raises Unavailable where the disk is full."""
        try:
            for name, data in files:
                pictures.write_file(self.folder / name, data)
        except OSError as error:
            self._unlink([name for name, _ in files])
            if error.errno not in _FULL:
                raise
            raise Unavailable(
                "There is no room for pictures right now. Try again later.",
                detail=str(error),
                retry_after=30.0,
            ) from None

    async def keep(self, job: LiveJob, done: Done, *, backend: str, now: float) -> tuple[StoredPicture, ...]:
        """Stamp a job's pictures with their recipes and write them, synced; in order of index.

        Raises Unavailable where the disk is full.
        """
        images = [job.images[index] for index in sorted(job.images)]
        kept = await asyncio.to_thread(self._keep, job.made, images, done, backend, now)
        return tuple(replace(picture, spoiler=picture.index in job.flagged) for picture in kept)

    def _keep(
        self, request: ImageRequest, images: Sequence[ImageReady], done: Done, backend: str, now: float
    ) -> tuple[StoredPicture, ...]:
        created = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        stamped = [self._stamped(request, image, done, backend, created) for image in images]
        self._write([(picture.name, data) for picture, data in stamped])
        return tuple(picture for picture, _ in stamped)

    def _stamped(
        self, request: ImageRequest, image: ImageReady, done: Done, backend: str, created: str
    ) -> tuple[StoredPicture, bytes]:
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
        picture = StoredPicture(
            name=pictures.picture_name(mime),
            index=image.index,
            mime=mime,
            width=request.width,
            height=request.height,
            seed=image.seed,
            alt_text=pictures.alt_text(request.prompt),
            recipe=recipe,
        )
        return picture, data

    async def remove(self, names: Sequence[str]) -> None:
        """Delete files; names that are gone already do not matter."""
        if names:
            await asyncio.to_thread(self._unlink, names)

    def _unlink(self, names: Sequence[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

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
            spoiler=stored.spoiler,
        )
