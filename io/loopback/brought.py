"""What a callback brings: its query, read so that a person always learns what came.

The nonce is looked for first (SECURITY 3). With it, the query comes from where the person was sent, so:

- an `error` is always read, whatever else the query holds and however damaged its description is;
- a token is only read when it is whole and there once: half a token is none;
- everything else is for the person's eyes, so it may be damaged.

Without a nonce (`nonce=None`) anybody can have sent it, so only an intact query is read.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ..http.urls import LOOPBACK_NAMES

MAX_PARAMETERS: Final = 32
SECRET_PARAMETERS: Final = ("access_token", "refresh_token", "id_token", "token", "code")
_ERRORS: Final = ("error", "error_description")
_BROKEN: Final = frozenset({"Cc", "Cs"})
"""Categories of control characters, and of what a byte that is no UTF-8 becomes."""

_TOO_MANY: Final = "The callback had too many parameters. Open the address again."
# Different programs read it differently; RFC 6749 section 3.1 forbids it.
_DOUBLED: Final = "The callback had the same parameter twice. Open the address again."
_GARBLED: Final = "The callback was damaged on its way. Open the address again."


class Arrival(msgspec.Struct, frozen=True):
    """What a callback brings; the fields are those of `CallbackHit`."""

    params: dict[str, str]
    damage: str = ""


def states_of(query: str) -> list[str]:
    """Every value of `state` in a query."""
    return [_legible(value) for name, value in _pairs(query) if name == "state"]


def has_nonce(query: str, nonce: str) -> bool:
    """Whether one value of `state` is the nonce.

    In constant time, so that the nonce cannot be guessed a character at a time; as bytes: text must be ASCII there.
    """
    return sum(secrets.compare_digest(state.encode(), nonce.encode()) for state in states_of(query)) > 0


def read_query(query: str, nonce: str | None) -> Arrival | None:
    """Return what a query brings, or None when it is not of this wait.

    Args:
        query: As it was sent.
        nonce: What `state` must be, once; None when nothing is known of who may answer.
    """
    if nonce is not None and not (len(states_of(query)) == 1 and has_nonce(query, nonce)):
        return None
    pairs = [(_legible(name), _legible(value)) for name, value in _pairs(query)]
    damage = _damage(query, pairs, nonce)
    if damage and nonce is not None:
        errors = {name: value for name, value in reversed(pairs) if name in _ERRORS and value}
        return Arrival(errors) if "error" in errors else Arrival({}, damage)
    if damage:
        return Arrival({}, damage)
    params = dict(pairs)
    params.pop("state", None)
    return Arrival(params)


def pasted_query(address: str, port: int | None) -> str | None:
    """The query of an address that a person copied out of a browser, or None when it is not one of a callback.

    A browser may have changed its scheme, the person its port for a tunnel, and an API may put what it answers behind
    `#`, which a browser does not send. All of these are read.

    Args:
        address: What was pasted.
        port: The port it must name; None when its nonce tells whose it is.
    """
    # No address holds white space, but a terminal or a mail that it was copied from breaks lines.
    text = "".join(char for char in address if char.isprintable() and not char.isspace()).strip("<>\"'`")
    text = text.replace("&amp;", "&")
    if not text.isascii():
        return None
    if "://" not in text:
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        host, named = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or host not in LOOPBACK_NAMES or parts.path != "/callback":
        return None
    if port is not None and named != port:
        return None
    there = {name for name, _ in _pairs(parts.query)}
    behind = [piece for piece in parts.fragment.split("&") if _pairs(piece) and _pairs(piece)[0][0] not in there]
    return "&".join(filter(None, [parts.query, *behind]))


def _damage(query: str, pairs: list[tuple[str, str]], nonce: str | None) -> str:
    if query.count("&") >= MAX_PARAMETERS:
        return _TOO_MANY
    if len(dict(pairs)) != len(pairs):
        return _DOUBLED
    # With the nonce, a word for the person need not be whole; a token must be.
    if any(_broken(name + value) for name, value in _pairs(query) if nonce is None or name in SECRET_PARAMETERS):
        return _GARBLED
    return ""


def _pairs(query: str) -> list[tuple[str, str]]:
    pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    # No token holds a space (RFC 6750 section 2.1), many hold a plus: one that was not encoded is meant.
    return [(name, value.replace(" ", "+") if name in SECRET_PARAMETERS else value) for name, value in pairs]


def _broken(text: str) -> bool:
    """Whether it was no UTF-8, or has control characters, which are in no parameter (RFC 6749 appendix A)."""
    return any(unicodedata.category(char) in _BROKEN for char in text)


def _legible(text: str) -> str:
    """The text as it can be shown: on one line, with U+FFFD for what is broken, or would reach a terminal."""
    text = re.sub(r"[\r\n\t]+", " ", text)
    return "".join("\ufffd" if unicodedata.category(char) in _BROKEN else char for char in text)
