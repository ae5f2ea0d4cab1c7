"""What the garbage collector leaves alone while the program is connected, and that it lets go afterwards."""

from __future__ import annotations

import gc
from pathlib import Path

from tests.fakes.discord_house import discord_house


async def test_what_a_connection_knows_is_left_alone_until_its_end(tmp_path: Path) -> None:
    gc.unfreeze()
    async with discord_house(tmp_path) as house:
        client = house.adapter.client
        assert client is not None
        await client.on_ready()
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
