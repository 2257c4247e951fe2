"""What names an image: the grammar of container image references, checked before anything is asked for.

The rules are those of the Distribution project, which Docker and the registries share (`reference.go`, the comment at
its top): `[host[:port]/]path[:tag][@algorithm:digest]`. A reference goes on to the server and perhaps, by a person's
hand, to other commands; one that begins with `-` would be taken for an option there, and none does by this grammar.
"""

from __future__ import annotations

import re
from typing import Final

from ...errors import InvalidImage

LONGEST_NAME: Final = 255
"""Characters of host and path together (`NameTotalLengthMax`)."""
LONGEST: Final = 1024
"""Characters of a whole reference; with a tag of 128 and the longest digest in use it stays far below."""

_SHOWN: Final = 60

_HOST_PART = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_ALGORITHM = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*"
_REFERENCE: Final = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PATH_PART}(?:/{_PATH_PART})*)(?::{_TAG})?(?:@{_ALGORITHM}:[0-9A-Fa-f]{{32,}})?"
)


def check_image(reference: str) -> str:
    """The reference, if it can name an image.

    Args:
        reference: `registry.example/team/app:1.2`, say.

    Raises:
        InvalidImage: It cannot; the message says why.
    """
    if not reference:
        raise InvalidImage("the image's name is empty")
    shown = repr(reference if len(reference) <= _SHOWN else reference[:_SHOWN] + "…")
    if len(reference) > LONGEST:
        raise InvalidImage(f"{shown} is {len(reference)} characters long; no image's name is longer than {LONGEST}")
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise InvalidImage(f"{shown} names no image: {_why_not(reference)}")
    if len(found["name"]) > LONGEST_NAME:
        raise InvalidImage(f"{shown} names no image: before its tag it is longer than {LONGEST_NAME} characters")
    return reference


def _why_not(reference: str) -> str:
    if any(char.isspace() or not char.isprintable() for char in reference):
        return "it holds a space or something that cannot be seen"
    if reference.startswith("-"):
        return "it begins with a dash, as options do"
    if "://" in reference:
        return "it is an address; leave out what is before the host"
    if reference != reference.lower() and _REFERENCE.fullmatch(reference.lower()):
        return "a repository is written in small letters"
    return "it is not of the form [host[:port]/]path[:tag][@digest]"
