"""Discord messages as a web page, drawn from their real payloads, for eyes and for the documentation.

Knows the parts of Components V2 and of Discord's Markdown that the bot uses; anything else is drawn as what
it is called, so that a gap is seen.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]

STYLE = """
* { box-sizing: border-box; margin: 0 }
body { background: #313338; color: #dbdee1; font: 16px/1.375 "gg sans", "Noto Sans", Helvetica, Arial,
  sans-serif; width: 720px; padding: 16px 16px 24px }
.message { display: flex; gap: 16px; padding: 8px 0 }
.avatar { width: 40px; height: 40px; border-radius: 50%; flex: none; display: grid; place-items: center;
  font-size: 20px; background: #5865f2; color: #fff }
.who { font-weight: 600; color: #f2f3f5 } .tag { background: #5865f2; color: #fff; font-size: 11px;
  border-radius: 3px; padding: 1px 5px; margin-left: 4px; vertical-align: 1px } time { color: #949ba4;
  font-size: 12px; margin-left: 8px } .body { flex: 1; min-width: 0 } .small { color: #949ba4;
  font-size: 13px }
.parts > * { margin-top: 4px; max-width: 560px } p { overflow-wrap: anywhere }
.mention { background: #3c4270; color: #c9cdfb; border-radius: 3px; padding: 0 2px; font-weight: 500 }
code, .time { background: #1e1f22; border-radius: 3px; padding: 1px 4px; font-size: 14px } .time {
  background: #404249; font-size: inherit } a { color: #00a8fc; text-decoration: none }
.gallery { display: grid; gap: 4px; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr));
  border-radius: 8px; overflow: hidden } .gallery.one { max-width: 300px; display: block }
.gallery figure { position: relative } .gallery img { width: 100%; display: block; image-rendering: auto }
.gallery .hidden img { filter: blur(28px) } .gallery .hidden::after { content: "SPOILER"; position: absolute;
  inset: 0; display: grid; place-items: center; font-weight: 700; letter-spacing: 1px }
.row { display: flex; gap: 8px; flex-wrap: wrap; padding-top: 4px } .button { border-radius: 4px;
  padding: 5px 14px; font-size: 14px; font-weight: 500; background: #4e5058; color: #fff }
.b1 { background: #5865f2 } .b3 { background: #248046 } .b4 { background: #da373c } .off { opacity: .5 }
.select { background: #1e1f22; border-radius: 4px; padding: 8px 12px; min-width: 320px; color: #949ba4 }
.container { background: #2b2d31; border-left: 4px solid #5865f2; border-radius: 6px; padding: 12px }
.private { background: #2f3140; border-left: 2px solid #5865f2; padding-left: 14px }
.private .only { font-size: 12px; color: #949ba4; padding-top: 4px }
.label { font-size: 12px; color: #949ba4; text-transform: uppercase; letter-spacing: .5px;
  padding: 14px 0 2px }
.modal { background: #2b2d31; border-radius: 8px; padding: 16px; width: 440px } .modal h3 { color: #f2f3f5;
  padding-bottom: 8px } .input { background: #1e1f22; border-radius: 4px; padding: 8px 10px; min-height: 38px;
  white-space: pre-wrap } .field { font-size: 13px; font-weight: 600; padding: 10px 0 4px }
hr { border: 0; border-top: 1px solid #3f4147; margin: 8px 0 }
"""


@dataclass
class Page:
    """A page that grows. names: user id -> display name; picture: the bytes behind an attachment's url;
    now: Unix time that relative times are drawn from."""

    names: Mapping[str, str]
    picture: Callable[[str], bytes]
    now: float
    _parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """A small line above what follows."""
        self._parts.append(f'<div class="label">{html.escape(text)}</div>')

    def typed(self, who: str, text: str) -> None:
        """What somebody typed: the command that a message answers."""
        body = f'<p class="small">{html.escape(who)} used <code>{html.escape(text)}</code></p>'
        self._parts.append(body)

    def message(self, message: Json, *, private: bool = False) -> None:
        """One message."""
        author = str(message.get("author", {}).get("username", "Fairbrush"))
        body = "".join(self._body(message))
        only = '<p class="only">Only you can see this · Dismiss message</p>' if private else ""
        self._parts.append(
            f'<div class="message {"private" if private else ""}"><div class="avatar">🖌️</div>'
            f'<div class="body"><span class="who">{html.escape(author)}</span><span class="tag">APP</span>'
            f'<time>now</time><div class="parts">{body}</div>{only}</div></div>'
        )

    def modal(self, modal: Json) -> None:
        """A form."""
        fields = "".join(self._field(part) for part in modal.get("components", ()))
        self._parts.append(f'<div class="modal"><h3>{html.escape(str(modal["title"]))}</h3>{fields}</div>')

    def html(self) -> str:
        """The whole page."""
        return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><body>{''.join(self._parts)}</body>"

    # --- parts ---

    def _body(self, message: Json) -> Sequence[str]:
        parts = []
        if content := message.get("content"):
            parts.append(self._text(str(content)))
        files = {str(each["filename"]): each for each in message.get("attachments", ())}
        components = message.get("components", ())
        if (
            not any(_kind(part) == 12 for part in components)
            and files
            and not message.get("flags", 0) & 1 << 15
        ):
            parts.append(self._gallery([{"media": {"url": each["url"]}} for each in files.values()]))
        parts += [self._component(part, files) for part in components]
        return parts

    def _component(self, part: Json, files: Mapping[str, Json]) -> str:
        inner = part.get("components", ())
        match _kind(part):
            case 1:
                return f'<div class="row">{"".join(self._component(each, files) for each in inner)}</div>'
            case 2:
                emoji = (part.get("emoji") or {}).get("name") or ""
                words = html.escape(f"{emoji} {part.get('label') or ''}".strip())
                off = " off" if part.get("disabled") else ""
                return f'<span class="button b{part.get("style", 2)}{off}">{words}</span>'
            case 3 | 5 | 6 | 7 | 8:
                return (
                    f'<span class="select">{html.escape(str(part.get("placeholder") or "Choose"))} ▾</span>'
                )
            case 9:
                return "".join(self._component(each, files) for each in inner)
            case 10:
                return self._text(str(part["content"]))
            case 12:
                return self._gallery(part["items"], files)
            case 14:
                return "<hr>"
            case 17:
                body = "".join(self._component(each, files) for each in inner)
                return f'<div class="container">{body}</div>'
        return f"<code>component {_kind(part)}</code>"

    def _gallery(self, items: Sequence[Json], files: Mapping[str, Json] | None = None) -> str:
        figures = []
        for item in items:
            url = str(item["media"]["url"])
            if url.startswith("attachment://") and files is not None:
                url = str(files[url.removeprefix("attachment://")]["url"])
            data = base64.b64encode(self.picture(url)).decode()
            alt = html.escape(str(item.get("description") or ""), quote=True)
            hidden = "hidden" if item.get("spoiler") else ""
            figures.append(f'<figure class="{hidden}"><img alt="{alt}" src="data:;base64,{data}"></figure>')
        return f'<div class="gallery {"one" if len(items) == 1 else ""}">{"".join(figures)}</div>'

    def _field(self, part: Json) -> str:
        label, held = part.get("label"), part.get("component") or part
        if _kind(part) == 1:
            held = part["components"][0]
            label = held.get("label")
        if _kind(part) == 10:
            return self._text(str(part["content"]))
        value = html.escape(str(held.get("value") or held.get("placeholder") or ""))
        return f'<div class="field">{html.escape(str(label or ""))}</div><div class="input">{value}</div>'

    def _text(self, text: str) -> str:
        lines = []
        for line in text.split("\n"):
            small = line.startswith("-# ")
            body = self._inline(line.removeprefix("-# "))
            heading = re.match(r"^#{1,3} ", line)
            if heading:
                body = f"<b>{self._inline(line[heading.end() :])}</b>"
            lines.append(f'<p class="{"small" if small else ""}">{body}</p>')
        return f"<div>{''.join(lines)}</div>"

    def _inline(self, text: str) -> str:
        kept: list[str] = []

        def keep(markup: str) -> str:
            kept.append(markup)
            return f"\x00{len(kept) - 1}\x00"

        text = re.sub(r"(`+)(.+?)\1", lambda m: keep(f"<code>{html.escape(m[2].strip())}</code>"), text)
        text = re.sub(r"\\([^\w\s])", lambda m: keep(html.escape(m[1])), text)
        text = re.sub(r"<t:(\d+):(\w)>", lambda m: keep(self._time(int(m[1]))), text)
        text = re.sub(r"<@!?(\d+)>", lambda m: keep(self._mention(m[1])), text)
        text = re.sub(r"<#(\d+)>", lambda m: keep(f'<span class="mention"># {m[1][-4:]}</span>'), text)
        text = re.sub(r"<@&(\d+)>", lambda m: keep(f'<span class="mention">@role {m[1][-4:]}</span>'), text)
        text = re.sub(r"<?/([\w ]+):\d+>", lambda m: keep(f'<span class="mention">/{m[1]}</span>'), text)
        text = re.sub(
            r"\[([^\]]+)\]\((https?://[^)\s]+)\)", lambda m: keep(f"<a>{html.escape(m[1])}</a>"), text
        )
        text = html.escape(text)
        text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
        text = re.sub(r"(?<!\w)[*_](.+?)[*_](?!\w)", r"<i>\1</i>", text)
        while "\x00" in text:
            text = re.sub(r"\x00(\d+)\x00", lambda m: kept[int(m[1])], text)
        return text

    def _time(self, when: int) -> str:
        seconds = when - self.now
        amount, unit = (round(seconds / 60), "minute") if abs(seconds) >= 60 else (round(seconds), "second")
        words = f"{abs(amount)} {unit}{'' if abs(amount) == 1 else 's'}"
        return f'<span class="time">{f"in {words}" if seconds >= 0 else f"{words} ago"}</span>'

    def _mention(self, user: str) -> str:
        return f'<span class="mention">@{html.escape(self.names.get(user, user))}</span>'


def _chosen(menu: Json) -> str:
    """What a menu says while it is closed."""
    chosen = [str(option["label"]) for option in menu.get("options", ()) if option.get("default")]
    return ", ".join(chosen) or str(menu.get("placeholder") or "Choose")


def _kind(part: Json) -> int:
    return int(part.get("type", 0))
