"""A record of a shared file: what it knows, and what it only keeps."""

from __future__ import annotations

from typing import Any

import msgspec
from systemprompt_cloud.io.local.unknown import plain_record, read_record


class Letter(msgspec.Struct, kw_only=True):
    """Something another program has, too."""

    unread: bool
    opened: str = "never"
    unknown_fields: dict[str, Any] = {}


def test_every_name_may_be_a_fields() -> None:
    """No field is special by its name: what one record keeps out of its file is another's to write there."""
    raw = {"unread": True, "opened": "today", "colour": "red"}
    letter = read_record(raw, Letter)
    assert letter == Letter(unread=True, opened="today", unknown_fields={"colour": "red"})
    assert plain_record(letter) == raw


def test_a_field_of_ours_is_not_the_files() -> None:
    """It is neither read from the file nor written there; what the file has under its name is kept."""
    raw = {"unread": True, "opened": {"theirs": 1}}
    letter = read_record(raw, Letter, ours=("opened",))
    assert (letter.opened, letter.unknown_fields) == ("never", {"opened": {"theirs": 1}})
    letter.opened = "now"
    assert plain_record(letter, ours=("opened",)) == raw
