"""Two command lines in one process: neither sees what was typed in the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemprompt_cloud.cli.app import run

from tests.support.listening import logging_restored


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty home, none of the variables that name a directory or an API; the log is left as it was found."""
    for name in ("SYSTEMPROMPT_DIR", "SYSTEMPROMPT_API_URL", "SYSTEMPROMPT_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with logging_restored():
        yield


def test_each_run_has_its_own_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first prints JSON and knows one directory; the second prints a sentence and knows another."""
    assert run(["whoami", "--json", "--dir", str(tmp_path / "one")]) == 4
    said = capsys.readouterr()
    assert json.loads(said.out)["error"] == "NotAuthenticated"
    assert str(tmp_path / "one") in said.err
    assert run(["whoami", "--dir", str(tmp_path / "two")]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert str(tmp_path / "two") in said.err
    assert str(tmp_path / "one") not in said.err


def test_a_usage_error_is_json_only_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Also when the run before it asked for JSON."""
    assert run(["nothing", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "UsageError"
    assert run(["nothing"]) == 2
    assert capsys.readouterr().out == ""
    assert run(["whoami", "--version"]) == 0
    assert capsys.readouterr().out.startswith("systemprompt-cloud ")


def test_an_error_before_the_settings_are_known_takes_none_from_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The current directory is gone: there are no settings, and the last run's are not used in their place."""
    assert run(["flows", "list", "--json", "--dir", str(tmp_path / "one")]) == 0
    capsys.readouterr()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(["flows", "list"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Error: ")
    assert str(tmp_path / "one") not in said.err
