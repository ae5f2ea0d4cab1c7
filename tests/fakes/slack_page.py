"""Slack messages and forms as a web page, drawn from their real payloads, for eyes and for the documentation.

Knows the blocks and the mrkdwn that the bot uses; anything else is drawn as what it is called, so that a gap
is seen.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]

EMOJI = {
    "art": "🎨",
    "hourglass": "⌛",
    "hourglass_flowing_sand": "⏳",
    "white_check_mark": "✅",
    "warning": "⚠️",
    "wastebasket": "🗑️",
    "no_entry": "⛔",
    "lower_left_paintbrush": "🖌️",
    "see_no_evil": "🙈",
}
STYLE = """
* { box-sizing: border-box; margin: 0 }
body { background: #fff; color: #1d1c1d; font: 15px/1.46 Lato, "Noto Sans", Helvetica, Arial, sans-serif;
  width: 720px; padding: 16px 16px 24px }
.message { display: flex; gap: 8px; padding: 8px 0 } .reply { margin-left: 44px }
.avatar { width: 36px; height: 36px; border-radius: 8px; flex: none; display: grid; place-items: center;
  font-size: 18px; background: #4a154b }
.who { font-weight: 900 } .tag { background: #e8e8e8; color: #616061; font-size: 10px; border-radius: 2px;
  padding: 1px 4px; margin-left: 4px; vertical-align: 1px } time, .small { color: #616061; font-size: 12px }
time { margin-left: 8px } .body { flex: 1; min-width: 0 } .body > div { margin-top: 4px; max-width: 560px }
.mention { background: #e8f5fa; color: #1264a3; border-radius: 3px; padding: 0 2px }
code { background: #f6f6f6; border: 1px solid #e1e1e1; border-radius: 3px; color: #c01343; font-size: 12px;
  padding: 1px 3px } a { color: #1264a3; text-decoration: none } p { overflow-wrap: anywhere }
img.picture { max-width: 320px; width: 100%; border-radius: 8px; display: block }
.row { display: flex; gap: 8px; flex-wrap: wrap } .button { border: 1px solid #bbbabb; border-radius: 4px;
  padding: 4px 12px; font-size: 14px; font-weight: 700 } .primary { background: #007a5a; color: #fff }
.danger { color: #e01e5a } .only { color: #616061; font-size: 12px; padding: 4px 0 0 }
.label { font-size: 12px; color: #616061; padding: 14px 0 2px; text-transform: uppercase;
  letter-spacing: .5px }
.modal { border: 1px solid #ddd; border-radius: 10px; width: 480px; padding: 18px;
  box-shadow: 0 4px 18px #0002 }
.field { font-weight: 700; padding: 12px 0 4px } .input { border: 1px solid #868686; border-radius: 4px;
  padding: 6px 10px; min-height: 34px; white-space: pre-wrap; color: #616061 } h3 { font-size: 18px }
hr { border: 0; border-top: 1px solid #ddd; margin: 8px 0 } .end { text-align: right; padding-top: 14px }
"""


@dataclass
class Page:
    """A page that grows. names: user id -> display name; picture: the bytes of a file id."""

    names: Mapping[str, str]
    picture: Callable[[str], bytes]
    _parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """A small line above what follows."""
        self._parts.append(f'<div class="label">{html.escape(text)}</div>')

    def typed(self, who: str, text: str) -> None:
        """What somebody typed."""
        self._parts.append(f'<p class="small">{html.escape(who)}: <code>{html.escape(text)}</code></p>')

    def message(self, message: Json, *, reply: bool = False, private: bool = False) -> None:
        """One message; reply: in a thread."""
        blocks = message.get("blocks") or [
            {"type": "section", "text": {"type": "mrkdwn", "text": message.get("text", "")}}
        ]
        only = '<p class="only">Only visible to you</p>' if private else ""
        body = "".join(self._block(block) for block in blocks)
        self._parts.append(
            f'<div class="message {"reply" if reply else ""}"><div class="avatar">🖌️</div><div class="body">'
            f'{only}<span class="who">Fairbrush</span><span class="tag">APP</span><time>14:02</time>{body}'
            "</div></div>"
        )

    def view(self, view: Json) -> None:
        """A modal or a home tab."""
        title = html.escape(str((view.get("title") or {}).get("text", "Home")))
        body = "".join(self._block(block) for block in view.get("blocks", ()))
        submit = (view.get("submit") or {}).get("text")
        end = (
            f'<div class="end"><span class="button primary">{html.escape(submit)}</span></div>'
            if submit
            else ""
        )
        self._parts.append(f'<div class="modal"><h3>{title}</h3>{body}{end}</div>')

    def html(self) -> str:
        """The whole page."""
        return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><body>{''.join(self._parts)}</body>"

    # --- parts ---

    def _block(self, block: Json) -> str:
        match block["type"]:
            case "section":
                fields = [block["text"]] if block.get("text") else list(block.get("fields", ()))
                side = self._element(block["accessory"]) if block.get("accessory") else ""
                return f"<div>{''.join(self._text(each) for each in fields)}{side}</div>"
            case "rich_text":
                return "".join(f"<p>{self._rich(part)}</p>" for part in block["elements"])
            case "header":
                return f"<div><b>{self._text(block['text'])}</b></div>"
            case "context":
                return (
                    f'<div class="small">{" ".join(self._element(each) for each in block["elements"])}</div>'
                )
            case "actions":
                return f'<div class="row">{"".join(self._element(each) for each in block["elements"])}</div>'
            case "image":
                return f"<div>{self._image(block)}</div>"
            case "divider":
                return "<hr>"
            case "input":
                label = html.escape(str(block["label"]["text"]))
                return f'<div class="field">{label}</div>{self._element(block["element"])}'
        return f"<div><code>{html.escape(str(block['type']))}</code></div>"

    def _element(self, element: Json) -> str:
        kind = str(element["type"])
        if kind in ("mrkdwn", "plain_text"):
            return self._text(element)
        if kind == "button":
            words = self._text(element["text"], wrap=False)
            return f'<span class="button {element.get("style", "")}">{words}</span>'
        if kind == "image":
            return self._image(element)
        if kind == "radio_buttons":
            first = element.get("initial_option")
            marks = ("◉" if option == first else "○" for option in element["options"])
            texts = (self._text(option["text"], wrap=False) for option in element["options"])
            return "".join(f"<p>{mark} {text}</p>" for mark, text in zip(marks, texts, strict=True))
        if (
            kind == "plain_text_input"
            or kind.endswith(("_select", "_input"))
            or kind in ("checkboxes", "overflow")
        ):
            return f'<div class="input">{html.escape(_shown(element))}</div>'
        return f"<code>{html.escape(kind)}</code>"

    def _image(self, block: Json) -> str:
        alt = html.escape(str(block.get("alt_text", "")), quote=True)
        file = block.get("slack_file") or {}
        data = base64.b64encode(self.picture(str(file.get("id") or block.get("image_url")))).decode()
        return f'<img class="picture" alt="{alt}" src="data:;base64,{data}">'

    def _rich(self, element: Json) -> str:
        """A part of a rich text."""
        match element["type"]:
            case "rich_text_section" | "rich_text_quote":
                return "".join(self._rich(each) for each in element["elements"])
            case "rich_text_preformatted":
                return f"<code>{''.join(self._rich(each) for each in element['elements'])}</code>"
            case "user":
                return self._mention(str(element["user_id"]))
            case "emoji":
                return _emoji(f":{element['name']}:")
            case "date":
                return html.escape(str(element.get("fallback") or element["timestamp"]))
            case "link":
                return f"<a>{html.escape(str(element.get('text') or element['url']))}</a>"
            case "text":
                return _styled(html.escape(str(element["text"])), element.get("style") or {})
        return f"<code>{html.escape(str(element['type']))}</code>"

    def _text(self, text: Json, *, wrap: bool = True) -> str:
        raw = str(text["text"])
        body = _emoji(html.escape(raw)) if text["type"] == "plain_text" else self._mrkdwn(raw)
        return "".join(f"<p>{line}</p>" for line in body.split("\n")) if wrap else body

    def _mrkdwn(self, text: str) -> str:
        kept: list[str] = []

        def keep(markup: str) -> str:
            kept.append(markup)
            return f"\x00{len(kept) - 1}\x00"

        text = re.sub(r"`([^`\n]+)`", lambda m: keep(f"<code>{m[1]}</code>"), text)
        text = re.sub(r"<@(\w+)>", lambda m: keep(self._mention(m[1])), text)
        text = re.sub(r"<!date\^\d+\^[^|>]*\|([^>]*)>", lambda m: keep(m[1]), text)
        text = re.sub(r"<(https?://[^|>]+)\|([^>]+)>", lambda m: keep(f"<a>{m[2]}</a>"), text)
        text = re.sub(r"<#(\w+)(\|[^>]*)?>", lambda m: keep(f'<span class="mention">#{m[1]}</span>'), text)
        text = re.sub(r"(?<![\w*])\*([^*\n]+)\*(?![\w*])", r"<b>\1</b>", text)
        text = re.sub(r"(?<![\w_])_([^_\n]+)_(?![\w_])", r"<i>\1</i>", text)
        text = _emoji(text)
        while "\x00" in text:
            text = re.sub(r"\x00(\d+)\x00", lambda m: kept[int(m[1])], text)
        return text

    def _mention(self, user: str) -> str:
        return f'<span class="mention">@{html.escape(self.names.get(user, user))}</span>'


def _emoji(text: str) -> str:
    return re.sub(r":([a-z_]+):", lambda m: EMOJI.get(m[1], m[0]), text)


def _styled(text: str, style: Json) -> str:
    for name, tag in (("bold", "b"), ("italic", "i"), ("code", "code")):
        text = f"<{tag}>{text}</{tag}>" if style.get(name) else text
    return text.replace("\n", "<br>")


def _shown(element: Json) -> str:
    """What an input holds, or says while it is empty."""
    option = element.get("initial_option") or {}
    value = element.get("initial_value") or (option.get("text") or {}).get("text")
    return str(value or (element.get("placeholder") or {}).get("text") or "")
