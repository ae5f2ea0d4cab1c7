"""The local Slack's files, driven by the bare slack_sdk: uploads, processing, sharing, downloads."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from slack_sdk.web.async_client import AsyncWebClient

from tests.fakes.slack import Slack
from tests.fakes.slack_program import (
    image,
    png,
    refused,
    upload,
)


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    """A local Slack."""
    async with Slack() as made:
        yield made


@pytest.fixture
def client(slack: Slack) -> AsyncWebClient:
    """The bot's client."""
    return AsyncWebClient(slack.token, base_url=slack.api_url)


async def test_a_file_is_refused_in_blocks_until_it_is_processed(
    slack: Slack, client: AsyncWebClient
) -> None:
    slack.troubles.processing_delay = math.inf
    file = await upload(client, png())
    root = await client.chat_postMessage(channel=slack.general.id, text="making")
    shown = {"channel": slack.general.id, "ts": root["ts"], "text": "done", "blocks": [image(file)]}
    assert await refused(client.chat_update(**shown)) == "invalid_blocks"
    assert (await client.files_info(file=file))["file"]["mimetype"] == ""
    slack.finish_files()
    assert (await client.files_info(file=file))["file"]["mimetype"] == "image/png"
    await client.chat_update(**shown)
    await client.chat_update(**shown)
    (picture,) = slack.images(slack.messages())
    assert (picture.file, picture.data, picture.alt) == (file, png(), "a fox")


async def test_what_is_no_picture_never_becomes_one(slack: Slack, client: AsyncWebClient) -> None:
    file = await upload(client, b"just text")
    await slack.until(lambda: slack.world.files[file].mimetype)
    call = client.chat_postMessage(channel=slack.general.id, text="x", blocks=[image(file)])
    assert await refused(call) == "invalid_blocks"


async def test_a_share_comes_later_and_is_told_by_files_info(slack: Slack, client: AsyncWebClient) -> None:
    slack.troubles.share_delay = math.inf
    root = await client.chat_postMessage(channel=slack.general.id, text="here")
    file = await upload(client, png(), channel_id=slack.general.id, thread_ts=root["ts"])
    assert (await client.files_info(file=file))["file"]["shares"] == {}
    slack.finish_files()
    shares = (await client.files_info(file=file))["file"]["shares"]["public"][slack.general.id]
    assert shares[0]["thread_ts"] == root["ts"]
    await slack.until(lambda: slack.images(slack.thread(slack.messages()[0])))
    (picture,) = slack.images(slack.thread(slack.messages()[0]))
    assert picture.data == png()


async def test_a_share_with_alt_text_may_never_come(slack: Slack, client: AsyncWebClient) -> None:
    slack.troubles.lose_shares_with_alt = True
    lost = await upload(client, png(), alt="a fox", channel_id=slack.general.id)
    await upload(client, png("blue"), channel_id=slack.general.id)
    await slack.until(lambda: slack.messages())
    assert [picture.data for picture in slack.images(slack.messages())] == [png("blue")]
    assert slack.world.files[lost].shares == []


async def test_a_late_share_of_a_deleted_file_does_not_come(slack: Slack, client: AsyncWebClient) -> None:
    slack.troubles.share_delay = math.inf
    file = await upload(client, png(), channel_id=slack.general.id)
    await client.files_delete(file=file)
    slack.finish_files()
    assert slack.messages() == []
    assert await refused(client.files_info(file=file)) == "file_deleted"


async def test_an_upload_has_the_announced_length_and_is_completed_once(
    slack: Slack, client: AsyncWebClient
) -> None:
    made = await client.files_getUploadURLExternal(filename="fox.png", length=5)
    async with ClientSession() as http, http.post(made["upload_url"], data=b"123") as answer:
        assert answer.status == 400
    assert (
        await refused(client.files_completeUploadExternal(files=[{"id": made["file_id"]}]))
        == "file_not_found"
    )
    file = await upload(client, png())
    assert await refused(client.files_completeUploadExternal(files=[{"id": file}])) == "file_not_found"
    by_user = client.files_completeUploadExternal(files=[{"id": made["file_id"]}], channel_id=slack.bob.id)
    assert await refused(by_user) in ("file_not_found", "invalid_channel")


async def test_a_download_needs_the_token(slack: Slack, client: AsyncWebClient) -> None:
    file = slack.bob.upload(png())
    slack.bob.write("look", files=[file])
    url = (await client.files_info(file=file.id))["file"]["url_private_download"]
    async with ClientSession() as http:
        async with http.get(url, headers={"Authorization": f"Bearer {slack.token}"}) as answer:
            assert await answer.read() == png()
        async with http.get(url) as answer:
            assert answer.content_type == "text/html"
