"""People in the local Slack: what they do, and what they see; tests/fakes/slack.py says how to use them."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import ClientResponse, ClientSession, CookieJar
from yarl import URL

from tests.fakes import slack_payloads as payloads
from tests.fakes.slack_blocks import check_blocks, with_ids
from tests.fakes.slack_calls import Context, refuse_faults
from tests.fakes.slack_chat import answer
from tests.fakes.slack_events import Delivery
from tests.fakes.slack_files import sniff
from tests.fakes.slack_look import blocks_of, elements, entered, find, is_empty
from tests.fakes.slack_oauth import Consent
from tests.fakes.slack_shapes import view_json
from tests.fakes.slack_state import (
    Account,
    Channel,
    Enterprise,
    File,
    Message,
    Payload,
    Refused,
    Share,
    View,
    Workspace,
)
from tests.fakes.slack_views import replace_view, stack_view

if TYPE_CHECKING:
    from tests.fakes.slack import Slack


def typed(text: str) -> str:
    """Text as Slack hands it on: & < > escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Person:
    """A member of a workspace. What they do waits for its ack (or failure) and returns the Delivery."""

    def __init__(self, slack: Slack, account: Account) -> None:
        self._slack = slack
        self._world = slack.world
        self.account = account
        self.id = account.id
        self.name = account.name
        self.team = account.team

    # --- what they see ---

    @property
    def modal(self) -> View | None:
        """The modal on top."""
        stack = self._world.modals.get(self.id)
        return stack[-1] if stack else None

    @property
    def home(self) -> View | None:
        """What the App Home shows."""
        return self._world.homes.get(self.id)

    @property
    def ephemerals(self) -> list[Message]:
        """What was shown to them alone, oldest first."""
        return [message for message in self._world.ephemerals if message.only_for == self.id]

    @property
    def dm(self) -> Channel:
        """Their direct messages with the bot."""
        installation = self._world.installation_for(self.team)
        assert installation is not None, "the program is not installed here"
        return self._world.im(installation, self.id)

    # --- writing ---

    async def command(
        self, text: str = "", channel: Channel | None = None, *, name: str = "/imagine"
    ) -> Delivery:
        """A slash command, in the first channel of the workspace where none is given."""
        channel = channel or self._slack.first_channel(self.team)
        delivery = await self._slack.courier.hand_over(self.typing(text, channel, name=name))
        if delivery.failure:
            self._slack.failures.append((self.id, f'{name} failed with the error "{delivery.failure}"'))
        elif delivery.ack:
            self._show_answer(delivery, channel)
        return delivery

    def typing(self, text: str, channel: Channel | None = None, *, name: str = "/imagine") -> Delivery:
        """A slash command that is not sent yet."""
        channel = channel or self._slack.first_channel(self.team)
        payload = payloads.command(self._world, self._slack.url, name, typed(text), self.account, channel)
        return Delivery("command", payload, self.id, channel.id)

    async def mention(
        self,
        text: str,
        channel: Channel | None = None,
        *,
        thread: Message | str = "",
        files: Sequence[File] = (),
    ) -> Delivery | None:
        """A message that names the bot; None where the bot is not in the channel and so never hears of it."""
        channel = channel or self._slack.first_channel(self.team)
        installation = self._world.installation_for(self.team)
        assert installation is not None
        message = self.write(f"<@{installation.bot_user}> {typed(text)}", channel, thread=thread, files=files)
        if installation.bot_user not in channel.members or "app_mention" not in self._world.app.events:
            return None
        return await self._event(payloads.said(self._world, message, "app_mention"), channel.id)

    async def edit_mention(self, message: Message, text: str) -> Delivery:
        """Edit a message of theirs that names the bot: Slack tells it once more, as a new event."""
        installation = self._world.installation_for(self.team)
        assert installation is not None
        message.text = f"<@{installation.bot_user}> {typed(text)}"
        said = payloads.said(self._world, message, "app_mention")
        return await self._event(
            said | {"edited": {"user": self.id, "ts": self._world.new_ts()}}, message.channel
        )

    async def write_dm(
        self, text: str, *, thread: Message | str = "", files: Sequence[File] = ()
    ) -> Delivery:
        """A direct message to the bot."""
        message = self.write(typed(text), self.dm, thread=thread, files=files)
        more = {"channel_type": "im", "subtype": "file_share"} if files else {"channel_type": "im"}
        return await self._event(payloads.said(self._world, message, "message", **more), self.dm.id)

    def write(
        self,
        text: str,
        channel: Channel | None = None,
        *,
        thread: Message | str = "",
        files: Sequence[File] = (),
    ) -> Message:
        """A message that tells the program nothing. files: from upload()."""
        channel = channel or self._slack.first_channel(self.team)
        message = Message(channel.id, self._world.new_ts(), self.id, self.team, text)
        message.thread_ts = _root(thread)
        message.blocks = [_rich_text(text, self._world.new_id("b")[-5:])] if text else []
        for file in files:
            message.files.append(file.id)
            file.shares.append(Share(channel.id, message.ts, message.thread_ts))
        return self._world.post(message)

    def upload(self, data: bytes, name: str = "picture.png", *, alt: str = "") -> File:
        """A file of theirs, processed; give it to write() or mention() to share it."""
        file = File(
            self._world.new_id("F"), self.team, self.id, name, len(data), self._world.clock.now(), alt
        )
        file.data, file.completed, file.mimetype = data, True, sniff(data)
        self._world.files[file.id] = file
        return file

    # --- pressing ---

    async def press(self, holder: Message | View, name: str) -> Delivery:
        """Press a button, by its label, action_id or block_id."""
        block, element = find(holder, name)
        assert element["type"] == "button", element["type"]
        action = {
            key: element[key] for key in ("action_id", "text", "value", "style", "type") if key in element
        }
        return await self._act(holder, action | {"block_id": block["block_id"]})

    async def choose(self, holder: Message | View, name: str, value: Any) -> Delivery:
        """Choose from a menu or enter into an input that reports at once."""
        block, element = find(holder, name)
        state = entered(element, value)
        if isinstance(holder, View):
            holder.values.setdefault(block["block_id"], {})[element["action_id"]] = state
        action = {"action_id": element["action_id"], "block_id": block["block_id"], **state}
        return await self._act(holder, action)

    async def _act(self, holder: Message | View, action: Payload) -> Delivery:
        action["action_ts"] = self._world.new_ts()
        if isinstance(holder, View):
            payload = payloads.view_action(self._world, holder, self.account, action)
            return await self._interact(payload, "")
        assert not holder.deleted, "the message is gone"
        base = self._slack.url
        payload = payloads.message_action(self._world, base, holder, self.account, action)
        return await self._interact(payload, holder.channel)

    async def shortcut(self, callback_id: str) -> Delivery:
        """A global shortcut."""
        return await self._interact(payloads.shortcut(self._world, callback_id, self.account), "")

    async def message_shortcut(self, callback_id: str, message: Message) -> Delivery:
        """A shortcut on a message."""
        base = self._slack.url
        payload = payloads.message_shortcut(self._world, base, callback_id, message, self.account)
        return await self._interact(payload, message.channel)

    async def open_home(self) -> Delivery:
        """Open the App Home."""
        inner: Payload = {
            "type": "app_home_opened",
            "user": self.id,
            "channel": self.dm.id,
            "tab": "home",
            "event_ts": self._world.new_ts(),
        }
        if self.home is not None:
            inner["view"] = view_json(self._world, self.home)
        return await self._event(inner, self.dm.id)

    # --- modals ---

    async def until_modal(self, title: str = "", seconds: float = 10.0) -> View:
        """The modal, once one (with this title) is open."""

        def there() -> bool:
            return self.modal is not None and title in ("", self.modal.content["title"]["text"])

        await self._world.until(there, seconds)
        assert self.modal is not None
        return self.modal

    def fill(self, values: Mapping[str, Any]) -> None:
        """Enter values into the modal on top: label, action_id or block_id -> value (or an option's text)."""
        view = self.modal
        assert view is not None, "no modal is open"
        for name, value in values.items():
            block, element = find(view, name)
            view.values.setdefault(block["block_id"], {})[element["action_id"]] = entered(element, value)

    async def submit(self, values: Mapping[str, Any] | None = None) -> Delivery:
        """Fill in and submit; ValueError where a required input is empty. Errors stay in modal.errors."""
        self.fill(values or {})
        view = self.modal
        assert view is not None
        _check_complete(view)
        delivery = await self._hand_over(
            "interaction", payloads.submission(self._world, view, self.account), ""
        )
        if delivery.failure:
            self._slack.failures.append((self.id, "We had some trouble connecting. Try again?"))
        else:
            self._after_submit(delivery, view)
        self._world.touch()
        return delivery

    async def close_modal(self, *, cleared: bool = False) -> Delivery | None:
        """Close the modal on top, or all with `cleared`; told to the program where it asked for that."""
        view = self.modal
        assert view is not None
        stack = self._world.modals[self.id]
        del stack[0 if cleared else -1 :]
        self._world.touch()
        if not view.content.get("notify_on_close"):
            return None
        payload = payloads.closed(self._world, view, self.account, cleared=cleared)
        return await self._hand_over("interaction", payload, "")

    def _after_submit(self, delivery: Delivery, view: View) -> None:
        """What the ack says: errors, another view, all closed; nothing: this one closes."""
        ack = delivery.ack or {}
        action = ack.get("response_action", "")
        stack = self._world.modals.get(self.id, [])
        if view not in stack:
            return
        if action == "errors":
            unknown = set(ack["errors"]) - {block["block_id"] for block in view.content["blocks"]}
            assert not unknown, f"errors for blocks that are not there: {unknown}"
            view.errors = dict(ack["errors"])
        elif action in ("update", "push"):
            context = self._context(ack)
            try:
                content = context.view()
                if action == "update":
                    replace_view(context, view, content)
                else:
                    stack_view(context, content, self.id)
            except Refused as error:
                delivery.failure = f"{error.error} {error.extra}"
        elif action == "clear":
            stack.clear()
        else:
            stack.remove(view)

    # --- installing ---

    async def install(
        self, url: str, *, into: Workspace | Enterprise | None = None, deny: bool = False
    ) -> tuple[int, str]:
        """Open the program's install page in a browser and agree; the status and text of the last page."""
        enterprise = into.id if isinstance(into, Enterprise) else ""
        team = into.id if isinstance(into, Workspace) else self.team
        self._slack.consent = Consent(self.id, team, enterprise, deny)
        host = URL(url).origin()
        jar = CookieJar(unsafe=True, treat_as_secure_origin=[host])
        async with ClientSession(cookie_jar=jar) as browser:
            async with browser.get(url) as page:
                if page.status != 200 or page.url.path.startswith("/slack/oauth_redirect"):
                    return await _page(page)
                text = await page.text()
            links = [html.unescape(each) for each in re.findall(r'href="([^"]+)"', text)]
            async with browser.get(next(each for each in links if "/oauth/v2/authorize" in each)) as page:
                return await _page(page)

    # --- under the hood ---

    def _context(self, arguments: Payload) -> Context:
        installation = self._world.installation_for(self.team)
        assert installation is not None
        return Context(self._world, self._slack.troubles, installation, arguments, self._slack.url)

    def _show_answer(self, delivery: Delivery, channel: Channel) -> None:
        """The ack of a command may carry a message."""
        ack = delivery.ack
        context = self._context(ack)
        try:
            blocks = ack.get("blocks") or []
            refuse_faults("invalid_blocks", check_blocks(blocks, context.usable))
            made = with_ids(blocks, context.fresh_id)
            answer(context, channel.id, channel.team, self.id, "", ack.get("text", ""), made)
        except Refused as error:
            delivery.failure = f"{error.error} {error.extra}"

    async def _event(self, inner: Payload, channel: str) -> Delivery:
        return await self._hand_over("event", payloads.event(self._world, self.team, inner), channel)

    async def _interact(self, payload: Payload, channel: str) -> Delivery:
        delivery = await self._hand_over("interaction", payload, channel)
        if delivery.failure:
            self._slack.failures.append((self.id, f"action failed: {delivery.failure}"))
        return delivery

    async def _hand_over(self, kind: str, payload: Payload, channel: str) -> Delivery:
        return await self._slack.courier.hand_over(Delivery(kind, payload, self.id, channel))


async def _page(page: ClientResponse) -> tuple[int, str]:
    return page.status, await page.text()


def _root(thread: Message | str) -> str:
    return thread if isinstance(thread, str) else thread.thread_ts or thread.ts


def _rich_text(text: str, block_id: str) -> Payload:
    section = {"type": "rich_text_section", "elements": [{"type": "text", "text": text}]}
    return {"type": "rich_text", "block_id": block_id, "elements": [section]}


def _check_complete(view: View) -> None:
    for block, element in elements(blocks_of(view)):
        if block["type"] == "input" and not block.get("optional"):
            state = view.values.get(block["block_id"], {}).get(element["action_id"], {})
            if is_empty(state):
                raise ValueError(f"{block['label']['text']!r} is required")
