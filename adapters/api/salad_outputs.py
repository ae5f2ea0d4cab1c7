"""What came of a request, as Salad's clients read it: pictures in base64, or {"$error"}."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Final

from bot.core.errors import NotFound
from bot.core.messages import ended
from bot.core.request import JSON, ImageResult, Picture, State

AT_A_TIME: Final = 2  # answers that are put together in threads
_CODES: Final = {State.WITHHELD: "CONTENT_WITHHELD", State.CANCELLED: "CANCELLED"}


class Outputs:
    """Puts outputs together."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(AT_A_TIME)

    async def of(self, result: ImageResult, warnings: Sequence[str] = (), *, most: int | None = None) -> JSON:
        """images: all of them, in order, always; image_base64: where there is one; seeds; message: where
        there are fewer than asked for. most: bytes of pictures; more are left out, which is said.

        Raises NotFound where a file is gone.
        """
        if result.state is not State.DONE:
            code = _CODES.get(result.state, "APP_INFERENCE_ERROR")
            error = {"code": code, "name": "Error", "message": ended(result, guild="key")}
            return {"$error": error}
        async with self._room:
            images = await asyncio.to_thread(_encoded, result.pictures, most)
        output: dict[str, JSON] = {}
        if images is not None:
            output["images"] = images
            output |= {"image_base64": images[0]} if len(images) == 1 else {}
        else:
            warnings = (*warnings, "The pictures are too large to be sent. Ask for the job.")
        output["seeds"] = [picture.seed for picture in result.pictures]
        output |= {"message": result.message} if result.message else {}
        output |= {"notes": list(result.notes)} if result.notes else {}
        return output | ({"warnings": list(warnings)} if warnings else {})


def _encoded(pictures: Sequence[Picture], most: int | None) -> list[str] | None:
    try:
        if most is not None and sum(picture.path.stat().st_size for picture in pictures) > most:
            return None
        return [base64.b64encode(picture.path.read_bytes()).decode("ascii") for picture in pictures]
    except FileNotFoundError:
        raise NotFound("The pictures of this request were deleted.") from None
