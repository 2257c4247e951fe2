"""The one redactor: everything that becomes text passes through it.

Theory: a secret leaks by being quoted, not by being used. So nothing relies on callers to leave secrets out: whatever
becomes text (a log line, an error's message, a traceback, an export) goes through `redact`, which knows two things.
The *shapes* of secrets: JWTs, `Bearer` headers, callback parameters (also percent-encoded inside another URL),
passwords in URLs, database URLs. And the *values* the process has met: the vault and the API client hand every secret
they touch to `register_secret`, so an opaque token with no shape at all is still found.

A value is known as long as somebody holds it: a flow until its vault is discarded or its engine closed, an API client,
an event stream and a callback listener until they are closed, a record of a saved login, tenant or session as long as
the record lives. Values without an owner (typed at a command) are held by the process. A line that quotes a value after
its last holder let go, such as a traceback logged late, is hidden by shape only.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import weakref
from collections import Counter, deque
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

REDACTED: Final = "***"


SHORTEST_SECRET: Final = 6
"""Characters. Shorter values are not registered: replacing them would hide ordinary words."""


_NAMES: Final = r"(?:[a-z0-9_-]*token|[a-z0-9_-]*secret|state|code)"


_QUOTED_NAMES: Final = r"(?:[a-z0-9_-]*token|[a-z0-9_-]*secret|[a-z0-9_]*password|[a-z0-9_]*api_key|database_url)"


_VALUE: Final = r"[^&\s\"'#<>,;)\]}]+"


_SHAPES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # RFC 7519: the header is a JSON object, so its base64url starts with eyJ. The signature may be empty, and a JWE has
    # five parts. One dot is enough: a message may have been cut in the middle of a token. The upper bound keeps hostile
    # text from costing quadratic time.
    (re.compile(r"eyJ[A-Za-z0-9_-]{4,1024}(?:\.[A-Za-z0-9_-]*){1,4}"), REDACTED),
    # RFC 6750 section 2.1: b64token.
    (re.compile(r"(?i)\b(bearer(?:\s+|%20))[A-Za-z0-9._~+/=-]+"), rf"\1{REDACTED}"),
    # A database URL is a secret as a whole: host and name included (SECURITY 8).
    (
        re.compile(r"(?i)\b((?:postgres(?:ql)?|mysql|mariadb|mongodb|redis)(?:[+a-z0-9]*)://)[^\s\"'<>]+"),
        rf"\1{REDACTED}",
    ),
    # user:password@; a password may hold an unescaped slash, but digits and then a slash are a port and a path.
    (
        re.compile(r"(://[^\s/?#:@\"'\[<>]*:)(?!\d{1,5}(?:[/?#\s\"'<>]|$))[^\s\"'<>]{1,1024}@"),
        rf"\1{REDACTED}@",
    ),
    (re.compile(r"(://)[^\s/?#:@\"'<>]+@"), rf"\1{REDACTED}@"),
    # name=value, in a query string or alone.
    (re.compile(rf"(?i)(?<![a-z0-9_-])({_NAMES}=){_VALUE}"), rf"\1{REDACTED}"),
    # The same inside another URL's parameter: redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback%3Fstate%3D...
    (re.compile(rf"(?i)(%3F|%26)({_NAMES}%3D)(?:(?!%26|%23)[^&\s\"'#<>])+"), rf"\1\2{REDACTED}"),
    # JSON and Python reprs. `state` and `code` are left out: there they are a flow's state and an error's code.
    (
        re.compile(rf"(?i)(?<![a-z0-9_-])((?:\\?[\"'])?{_QUOTED_NAMES}(?:\\?[\"'])?\s*[:=]\s*b?\\?)([\"'])[^\"'\\]+"),
        rf"\1\2{REDACTED}",
    ),
)


_holders: dict[str, set[str | None]] = {}
"""Who holds each value; None is the process. A value nobody holds is no secret any more."""


_held: dict[str | None, set[str]] = {}
"""The values of each holder: the same as `_holders`, read the other way."""


_uses: Counter[str] = Counter()
"""How many values have each form: two values can share one, and one of them may be forgotten before the other."""


_lengths: dict[str, Counter[int]] = {}
"""The first characters of all forms, and how many forms that begin so have each length. What a text holds is found by
cutting it at these lengths, so the cost depends on the text and not on how many secrets there are, also when all begin
alike: a process that drives a thousand flows knows the keys of a thousand tenants."""


_lock: Final = threading.Lock()


_gone: Final[deque[str]] = deque()
"""Owners that were objects and are no more. They are forgotten with the next call: an object may end at any moment,
also while this very thread has the lock."""


_numbers: Final = itertools.count(1)


def new_owner(what: str) -> str:
    """A name for a holder of secrets that no other holder in this process has.

    Args:
        what: What it is, for debugging.
    """
    return f"{what} {next(_numbers)}"


def register_secret(value: str, owner: str | None = None) -> None:
    """Make `redact` hide this value wherever it turns up, also percent-encoded or escaped for JSON.

    Args:
        value: The secret; one shorter than `SHORTEST_SECRET` is ignored.
        owner: Who holds it, until `forget(owner)`. None for the whole life of the process.
    """
    _forget_gone()
    if len(value) < SHORTEST_SECRET:
        return
    with _lock:
        holders = _holders.get(value)
        if holders is None:
            for form in _forms(value):
                if not _uses[form]:
                    _lengths.setdefault(form[:SHORTEST_SECRET], Counter())[len(form)] += 1
                _uses[form] += 1
            holders = _holders[value] = set()
        holders.add(owner)
        _held.setdefault(owner, set()).add(value)


def register_held(holder: object, values: Iterable[str]) -> None:
    """Make `redact` hide values as long as the object that holds them lives.

    Args:
        holder: What holds them; weak references to it must be possible.
        values: The secrets. Whoever takes one out of the object and keeps it registers it again.
    """
    owner = new_owner(type(holder).__name__)
    for value in values:
        register_secret(value, owner)
    weakref.finalize(holder, _gone.append, owner).atexit = False


def _forget_gone() -> None:
    while _gone:
        try:
            owner = _gone.popleft()
        except IndexError:  # another thread was quicker
            return
        forget(owner)


def forget(owner: str) -> None:
    """Let go of every value this owner registered; those that somebody else holds too stay hidden.

    What is logged later may still quote such a value, in the traceback of an old exception say; then only its shape can
    give it away. So forget when the last use is over, not before.

    Args:
        owner: As in `register_secret`; one that holds nothing is fine.
    """
    with _lock:
        for value in _held.pop(owner, ()):
            holders = _holders[value]
            holders.remove(owner)
            if holders:
                continue
            del _holders[value]
            for form in _forms(value):
                _uses[form] -= 1
                if not _uses[form]:
                    _drop(form)


def _forms(value: str) -> set[str]:
    return {value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], repr(value)[1:-1]}


def _drop(form: str) -> None:
    del _uses[form]
    lengths = _lengths[form[:SHORTEST_SECRET]]
    lengths[len(form)] -= 1
    if not lengths[len(form)]:
        del lengths[len(form)]
    if not lengths:
        del _lengths[form[:SHORTEST_SECRET]]


def forget_secrets() -> None:
    """Forget every value, as in a new process; for tests, which would otherwise share them."""
    with _lock:
        for known in (_holders, _held, _uses, _lengths):
            known.clear()


def redact(text: str) -> str:
    """Return the text with everything that is, or looks like, a secret replaced by `***`.

    Args:
        text: Anything about to be shown, logged or stored outside the vault.

    Returns:
        The same text when there was nothing to hide. Redacting twice changes nothing more.
    """
    _forget_gone()
    found: set[str] = set()
    for start in range(len(text) - SHORTEST_SECRET + 1):
        lengths = _lengths.get(text[start : start + SHORTEST_SECRET])
        if lengths is not None:
            # Without the lock: a secret that is registered or forgotten meanwhile may be seen or not.
            found.update(form for length in tuple(lengths) if (form := text[start : start + length]) in _uses)
    # Longest first: a secret that is part of another must not leave the rest of the longer one standing.
    for secret in sorted(found, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return text


def printable(text: str) -> str:
    """Return the text on one line, with everything that cannot be seen made a space.

    That is Unicode's categories Cc, Cf, Cs, Co, Cn, Zl, Zp and Zs: escape sequences, with which a server could drive
    somebody's terminal, but also bidirectional overrides and zero-width characters, with which a name or an address
    could be made to look like another (Unicode Technical Report 36, section 2.5).

    Args:
        text: Anything that was written elsewhere and is about to be shown.
    """
    return "".join(char if char.isprintable() else " " for char in text)
