"""XMP packets: the machine-readable mark that a picture is synthetic, its alt text, and our recipe.

Sources: XMP specification part 1 (ISO 16684-1); IPTC Photo Metadata Standard 2025.1 for DigitalSourceType
and Alt Text (Accessibility).
"""

from __future__ import annotations

import re
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape

from bot.core.containers import MAX_TEXT

SYNTHETIC: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for a picture made by a model that was trained on other pictures."""

_OURS: Final = "urn:fairbrush:recipe:1:"
_PACKET: Final = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <xmp:CreatorTool>{tool}</xmp:CreatorTool>
   <Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
{alt}  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
_ALT: Final = """   <Iptc4xmpCore:AltTextAccessibility>
    <rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt>
   </Iptc4xmpCore:AltTextAccessibility>
"""
_END: Final = "  </rdf:Description>\n"
# XML 1.0 has no way to write these, not even as references.
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def packet(*, tool: str, alt_text: str) -> str:
    """A packet that marks a picture as synthetic. tool: the program that made it, "Fairbrush 0.1.0"."""
    alt = _ALT.format(text=_escaped(alt_text)) if alt_text else ""
    return _PACKET.format(tool=_escaped(tool), source=SYNTHETIC, alt=alt)


def with_recipe(text: str, recipe: str) -> bytes:
    """One of our packets with the recipe (JSON) as a property, for formats with no other place for it."""
    if text and recipe:
        field = f'   <fairbrush:recipe xmlns:fairbrush="{_OURS}">{_escaped(recipe)}</fairbrush:recipe>\n'
        text = text.replace(_END, field + _END, 1)
    return text.encode()


def recipe_in(text: str) -> str:
    """The recipe in a packet, as an element or as an attribute (other tools rewrite one as the other)."""
    found = _Search(f"{_OURS} recipe")
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = found.start
    parser.EndElementHandler = found.end
    parser.CharacterDataHandler = found.characters
    # Entities are how XML bombs are built, and XMP has none.
    parser.StartDoctypeDeclHandler = found.doctype
    try:
        parser.Parse(text[:MAX_TEXT].encode("utf-8", "replace"), True)
    except (expat.ExpatError, _DoctypeFound):
        return ""
    return found.text


class _DoctypeFound(Exception):
    pass


class _Search:
    def __init__(self, name: str) -> None:
        self._name = name
        self._inside = False
        self.text = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._inside = name == self._name
        self.text = self.text or attributes.get(self._name, "")

    def end(self, name: str) -> None:
        self._inside = False

    def characters(self, text: str) -> None:
        if self._inside:
            self.text += text

    def doctype(self, *_: object) -> None:
        raise _DoctypeFound


def _escaped(text: str) -> str:
    return escape(_FORBIDDEN.sub("", text))
