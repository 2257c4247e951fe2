"""Where the command line's log goes, and that no secret goes with it."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.base.log import PACKAGE, get_logger
from systemprompt_cloud.cli.shared.log import configure_logging

from tests.support.listening import logging_restored

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1XzEifQ.c2lnbmF0dXJl"
NONCE = "Zk3vQ9_nonce-T1x"

logger = get_logger(f"{PACKAGE}.tests.log")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Leave the process's logging as it was found."""
    with logging_restored():
        yield


def test_a_message_is_redacted_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning that quotes a token is shown without it."""
    configure_logging(0, None)
    logger.warning("the API refused %s", JWT)
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
    logger.debug("token=%s", "abc")
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


def test_a_line_of_the_file_names_the_module(tmp_path: Path) -> None:
    """With time, process and level, as `grep` and a person want them."""
    configure_logging(0, tmp_path / "log")
    logger.info("{not a format} %s", "100%")
    shape = rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}[+-]\d{{4}} {os.getpid()} INFO {PACKAGE}.tests.log: "
    assert re.fullmatch(shape + r"\{not a format\} 100%\n", (tmp_path / "log").read_text())


def test_debug_messages_of_other_libraries_are_left_out(tmp_path: Path) -> None:
    """They would be thousands, about every byte; a level of their own does not bring them in."""
    configure_logging(2, tmp_path / "log")
    chatty = logging.getLogger("chatty")
    chatty.setLevel(logging.DEBUG)
    chatty.debug("a byte came")
    chatty.info("a megabyte came")
    assert [line.partition("chatty: ")[2] for line in (tmp_path / "log").read_text().splitlines()] == [
        "chatty: a megabyte came"
    ]
