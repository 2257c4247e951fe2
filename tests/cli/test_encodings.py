"""JSON is UTF-8 in every locale, and a home whose path is no text is a home like any other."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.base.texts import path_text, storable

from tests.support.command import CommandLine
from tests.support.process import COMMAND

EMAIL = "jörg.müller@例え.jp"
LOGIN = ("login", "--port", "0", "--no-browser")


@pytest.fixture
def known(cli: CommandLine) -> CommandLine:
    """Logged in, with letters beyond ASCII in the address."""
    cli.login()
    path = cli.directory / "credentials.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"user_email": EMAIL}))
    return cli


def stdout_of(cli: CommandLine, *words: str, **more: str) -> bytes:
    """The bytes of a real process's stdout."""
    ran = subprocess.run([*COMMAND, *words], env=cli.environ | more, cwd=cli.home, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode(errors="replace")
    return ran.stdout


@pytest.mark.parametrize(
    "locale",
    [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}],
    ids=["latin-1", "ascii", "posix"],
)
def test_json_is_utf8_in_every_locale(known: CommandLine, locale: dict[str, str]) -> None:
    """RFC 8259 section 8.1; the words for people keep to the locale."""
    assert json.loads(stdout_of(known, "whoami", "--json", **locale).decode())["user_email"] == EMAIL
    (flow,) = known("flows", "list", "--json").lines
    exported = json.loads(stdout_of(known, "flows", "export", flow["flow"], **locale).decode())
    assert flow["flow"] in json.dumps(exported)
    assert EMAIL.encode() not in stdout_of(known, "whoami", **locale)


def test_a_locale_of_another_encoding_still_fails_in_utf8(cli: CommandLine) -> None:
    """An error's object, too."""
    ran = subprocess.run(
        [*COMMAND, "diagram", "größe", "--json"],
        env=cli.environ | {"PYTHONIOENCODING": "latin-1"},
        cwd=cli.home,
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "größe" in json.loads(ran.stdout.decode())["message"]


@pytest.mark.parametrize(
    "part",
    [b"J\xf6rg", "Jörg 例え".encode(), b"it's here", b"50%41#?", b"a\nb"],
    ids=["bytes", "utf-8", "'", "%", "\\n"],
)
def test_any_home_is_a_home(cli: CommandLine, part: bytes) -> None:
    """Bytes that are not UTF-8 are shown, and kept in the journal, as escapes."""
    home = os.fsdecode(os.fsencode(cli.home) + b"/" + part)
    os.mkdir(home, 0o700)  # noqa: PTH102 - the bytes are the point
    cli.environ["HOME"] = home
    place = Path(home)
    last = cli.play(*LOGIN, "--json", cwd=place).ended(0).lines[-1]
    assert last["result"]["credentials"] == path_text(place / ".local/share/systemprompt-cloud/credentials.json")
    assert cli("whoami", "--json", cwd=place).ended(0).lines[0]["directory"].startswith(path_text(home))
    for words in (
        ("whoami",),
        ("flows", "list"),
        ("flows", "history"),
        ("flows", "check", "--json"),
        ("logout", "--json"),
    ):
        cli(*words, cwd=place).ended(0)
    cli("doctor", "--offline", "--json", cwd=place).ended(0)


def test_a_directory_that_is_no_text_is_refused_as_an_option(cli: CommandLine) -> None:
    """By name, and as an object for programs; nothing is made."""
    ran = subprocess.run(
        [*COMMAND, "--json", "--dir", b"J\xf6rg", "login"],
        env=cli.environ,
        cwd=cli.home,
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 2
    assert json.loads(ran.stdout)["message"].endswith("'J\\xf6rg' is not UTF-8 text")
    assert list(cli.home.iterdir()) == []


@given(
    st.recursive(
        st.text() | st.none() | st.integers(), lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside)
    )
)
def test_whatever_is_shown_can_be_written(value: object) -> None:
    """Also half characters in the names of fields; plain text stays as it is."""
    shown = storable(value)
    json.dumps(shown, ensure_ascii=False).encode()
    assert storable(shown) == shown


@given(st.binary())
def test_a_path_is_text_for_any_bytes(name: bytes) -> None:
    """And stays as it is where it is UTF-8 already."""
    text = path_text(name.decode("utf-8", "surrogateescape"))
    assert text.encode().decode() == text
    try:
        assert text == name.decode()
    except UnicodeDecodeError:
        assert "\\x" in text
