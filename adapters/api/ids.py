"""Public ids: a group's own id with a signature over it and over whom it was given to.

So an id alone says which group it means and that it is its holder's: nothing is looked up for it, no table
is kept, and an id of another key, of another path, or one that was made up is simply not there.
"""

from __future__ import annotations

import hmac
import re
import uuid
from typing import Final

from bot.core.settings import Secret

_LETTERS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES: Final = {letter: value for value, letter in enumerate(_LETTERS)}
_GROUP_BYTES: Final = 5  # a group's id: eight letters of five bits
_HEX: Final = re.compile(r"[0-9a-f]{24}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_PURPOSE: Final = b"fairbrush public id"  # one key serves several purposes; none can stand in for another


class Ids:
    """secret: the program's. owner: whom an id is given to, such as a key's id with an API and a path."""

    def __init__(self, secret: Secret) -> None:
        key = hmac.digest(secret.reveal().encode(), _PURPOSE, "sha256")
        self._begun = hmac.new(key, digestmod="sha256")  # copied: that takes a sixth of beginning anew

    def short(self, group_id: str, owner: str) -> str:
        """24 hexadecimal digits."""
        packed = _packed(group_id)
        return (packed + self._mac(packed, owner)[:7]).hex()

    def group_of_short(self, text: str, owner: str) -> str | None:
        """The group of an id of short(); None where it is none of the owner's."""
        if not _HEX.fullmatch(text):
            return None
        packed, given = bytes.fromhex(text[: 2 * _GROUP_BYTES]), text[2 * _GROUP_BYTES :]
        ours = self._mac(packed, owner)[:7].hex()
        return _unpacked(packed) if hmac.compare_digest(ours, given) else None

    def uuid(self, group_id: str, owner: str) -> str:
        """A UUID, version 4 by its form."""
        packed = _packed(group_id)
        return str(uuid.UUID(bytes=packed + self._mac(packed, owner)[:11], version=4))

    def group_of_uuid(self, text: str, owner: str) -> str | None:
        """The group of an id of uuid(), in any case; None where it is none of the owner's."""
        text = text.lower()
        if not _UUID.fullmatch(text):
            return None
        group_id = _unpacked(bytes.fromhex(text.replace("-", "")[: 2 * _GROUP_BYTES]))
        return group_id if hmac.compare_digest(self.uuid(group_id, owner), text) else None

    def _mac(self, packed: bytes, owner: str) -> bytes:
        mac = self._begun.copy()
        mac.update(packed + owner.encode("utf-8", "replace"))
        return mac.digest()


def _packed(group_id: str) -> bytes:
    value = 0
    for letter in group_id:
        value = value << 5 | _VALUES[letter]
    return value.to_bytes(_GROUP_BYTES, "big")


def _unpacked(packed: bytes) -> str:
    bits = int.from_bytes(packed, "big")
    return "".join(_LETTERS[bits >> shift & 31] for shift in range(35, -1, -5))
