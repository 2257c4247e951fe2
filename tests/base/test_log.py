"""What is said never holds a secret, however it got into the sentence."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import loguru
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.base.log import configure_logging, logger
from systemprompt_cloud.base.redaction import redact, register_secret

if TYPE_CHECKING:
    from loguru import Message

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1XzEifQ.c2lnbmF0dXJl"
NONCE = "Zk3vQ9_nonce-T1x"


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Leave the process's logging as it was found."""
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers
    loguru.logger.remove()
    loguru.logger.add(sys.stderr)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"the API sent {JWT}.", "the API sent ***"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "***"),
        (f"cut short: {JWT[:30]}", "cut short: ***"),
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer ***"),
        ("{b'authorization': b'bearer abc'}", "{b'authorization': b'bearer ***'}"),
        (f"GET /callback?access_token=abc&state={NONCE}", "GET /callback?access_token=***&state=***"),
        (
            "GET /callback?error=access_denied&code=xyz#id_token=q",
            "GET /callback?error=access_denied&code=***#id_token=***",
        ),
        ("https://h/a?tenant=t1&secret=s", "https://h/a?tenant=t1&secret=***"),
        (
            f"https://api/authorize?redirect_uri=http%3A%2F%2F127.0.0.1%3A8765%2Fcallback%3Fstate%3D{NONCE}&x=1",
            "https://api/authorize?redirect_uri=http%3A%2F%2F127.0.0.1%3A8765%2Fcallback%3Fstate%3D***&x=1",
        ),
        ("http%3A%2F%2Fh%2F%3Fstate%3Dabc%26page%3D2", "http%3A%2F%2Fh%2F%3Fstate%3D***%26page%3D2"),
        ("proxy http://ann:pa/s@s@proxy:3128/ is down", "proxy http://ann:***@proxy:3128/ is down"),
        ("https://ghp_abc@github.com/o/r", "https://***@github.com/o/r"),
        ("postgres://app:pw@db.example/t?sslmode=require refused", "postgres://*** refused"),
        ('{"api_token": "abc", "status": "ok"}', '{"api_token": "***", "status": "ok"}'),
        ("TenantSecrets(sync_token='abc', app_url='u')", "TenantSecrets(sync_token='***', app_url='u')"),
        ('{"anthropic_api_key":"sk-1"}', '{"anthropic_api_key":"***"}'),
    ],
)
def test_a_secret_known_by_its_shape_is_hidden(said: str, shown: str) -> None:
    """Tokens, headers, callback parameters, passwords and database URLs are replaced, and nothing around them."""
    assert redact(said) == shown


@pytest.mark.parametrize(
    "said",
    [
        "flow 01J is in state awaiting_callback",
        '{"state": "awaiting_callback", "code": "not_found"}',
        "GET https://api.systemprompt.io:443/api/v1/auth/me answered 401",
        "https://registry.example:443/@scope/package",
        "systemprompt-cloud login --port 8765",
        "zipcode 12345, 3 tokens left",
    ],
)
def test_what_is_no_secret_stays_readable(said: str) -> None:
    """A flow's state, an error's code, ports and plain words are left alone."""
    assert redact(said) == said


@given(secret=st.text(min_size=1, max_size=20), before=st.text(max_size=20), after=st.text(max_size=20))
@example(secret='"\\\n', before="%", after="'")
def test_a_registered_value_is_found_anywhere(secret: str, before: str, after: str) -> None:
    """A value with no shape at all is hidden plain, percent-encoded and as a repr, whatever stands around it."""
    secret = f"opaque!{secret}!value"
    register_secret(secret)
    for form in (secret, quote(secret, safe=""), repr(secret)[1:-1]):
        assert form not in redact(before + form + after)


def test_the_longer_of_two_registered_values_is_hidden_whole() -> None:
    """A secret that is the beginning of another does not leave the other's rest standing."""
    register_secret("shared-start")
    register_secret("shared-start-and-rest")
    assert redact("<shared-start-and-rest>") == "<***>"


def test_a_very_short_value_is_not_registered() -> None:
    """Hiding `ab` everywhere would make every message unreadable."""
    register_secret("ab")
    assert redact("about") == "about"


_PARTS = st.sampled_from(
    [JWT, "Bearer ", "state=", "&code=x", "://u:p@h", "postgres://", '"token": "', "%3Fstate%3D", " "]
)


@given(st.lists(_PARTS | st.text(max_size=5), max_size=12).map("".join))
def test_redacting_twice_changes_nothing_more(said: str) -> None:
    """Text meets the redactor more than once: the first pass leaves no token, the second nothing to do."""
    once = redact(said)
    assert redact(once) == once
    assert JWT not in once


def test_a_message_is_redacted_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning that quotes a token is shown without it."""
    configure_logging(0, None)
    logger.warning("the API refused {}", JWT)
    assert capsys.readouterr().err == "WARNING: the API refused ***\n"


def test_a_traceback_is_redacted_and_shows_no_variables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Neither the exception's message, nor its cause's, nor any local variable lets a secret out."""
    configure_logging(2, tmp_path / "log")
    hidden = f"local variable {'9' * 5}-value"
    try:
        try:
            raise OSError(f"sent Bearer {JWT}")
        except OSError as exc:
            raise RuntimeError(f"GET /callback?state={NONCE} {len(hidden)}") from exc
    except RuntimeError:
        logger.exception("it failed")
    for text in (capsys.readouterr().err, (tmp_path / "log").read_text()):
        assert "it failed" in text
        assert "RuntimeError" in text
        assert "OSError" in text
        assert JWT not in text
        assert NONCE not in text
        assert hidden not in text


def test_a_sink_of_the_embedding_program_sees_no_secret_either() -> None:
    """Message, extra values and traceback are redacted before any sink, even one that would print variables."""
    seen: list[str] = []

    def sink(message: Message) -> None:
        seen.append(f"{message}{message.record['extra']}")

    loguru.logger.remove()
    loguru.logger.add(sink, format="{message}", diagnose=True, backtrace=True)
    token = JWT
    try:
        raise RuntimeError(token)
    except RuntimeError:
        logger.bind(token=token).exception("with {}", token)
    assert "RuntimeError: ***" in seen[0]
    assert JWT not in seen[0]


@pytest.mark.parametrize(("verbosity", "levels"), [(0, "W"), (1, "WI"), (2, "WID"), (7, "WID")])
def test_verbosity_chooses_what_stderr_shows(verbosity: int, levels: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings always, progress with -v, everything with -vv."""
    configure_logging(verbosity, None)
    logger.warning("w")
    logger.info("i")
    logger.debug("d")
    assert "".join(line[0] for line in capsys.readouterr().err.splitlines()) == levels


def test_the_log_file_is_private_under_any_umask_and_gets_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is 0600, is appended to, and holds debug messages although stderr shows only warnings."""
    path = tmp_path / "log"
    path.write_text("before\n")
    path.chmod(0o644)
    old = os.umask(0)
    try:
        configure_logging(0, path)
        configure_logging(0, tmp_path / "fresh")
        configure_logging(0, path)
    finally:
        os.umask(old)
    logger.debug("token={}", "abc")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o600
    assert path.read_text().startswith("before\n")
    assert "token=***" in path.read_text()
    assert capsys.readouterr().err == ""


def test_a_log_file_that_cannot_be_opened_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the file, and the logging configured before goes on."""
    configure_logging(0, None)
    with pytest.raises(Io, match="cannot write the log file") as caught:
        configure_logging(2, tmp_path)
    assert str(tmp_path) in caught.value.user_message
    logger.warning("still here")
    assert "still here" in capsys.readouterr().err


def test_what_other_libraries_log_is_redacted_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning through the standard `logging` comes out once, through the same redactor."""
    configure_logging(0, None)
    configure_logging(0, None)
    logging.getLogger("hypercorn.error").warning("GET /callback?state=%s", NONCE)
    logging.getLogger("odd").log(35, "a level of its own")
    assert capsys.readouterr().err.splitlines() == [
        "WARNING: hypercorn.error: GET /callback?state=***",
        "Level 35: odd: a level of its own",
    ]


EMBEDDED = """
import trio
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.base.log import configure_logging, logger
from systemprompt_cloud.base.errors import CloudError

async def main():
    async with CloudApiClient("http://127.0.0.1:9", attempts=2) as api:
        try:
            await api.authorize_url("github", "http://127.0.0.1:1/callback")
        except CloudError:
            configure_logging(0, None)
            logger.warning("asked for")

trio.run(main)
"""


def test_a_library_says_nothing_unasked() -> None:
    """A program that embeds the package and has loguru as it comes sees nothing until it configures the log."""
    ended = subprocess.run([sys.executable, "-c", EMBEDDED], capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    assert ended.stderr.splitlines() == ["WARNING: asked for"]
