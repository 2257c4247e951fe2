"""The commands that hints name exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import systemprompt_cloud
import typer.main
from systemprompt_cloud.base.errors import CLI, CloudError
from systemprompt_cloud.cli.app import app
from systemprompt_cloud.engine.errors import EventNotAccepted, FlowBusy, FlowExists

ROOT = Path(systemprompt_cloud.__file__).parent
COMMAND = re.compile(rf"(?:{CLI}|\{{CLI\}}) ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)")


def kinds(kind: type[CloudError] = CloudError) -> Iterator[type[CloudError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from kinds(each)


def hints() -> list[str]:
    """What every kind of error says by itself, and what is written where errors are raised."""
    made = [EventNotAccepted("here", "It", machine="login"), FlowBusy("f", pid=1, host="h"), FlowExists("f")]
    written = [
        line
        for room in ("io", "flows", "machines")
        for file in (ROOT / room).glob("*.py")
        for line in file.read_text().splitlines()
        if "hint" in line
    ]
    return [*(kind.default_hint for kind in kinds()), *(error.recovery_hint for error in made), *written]


def exists(words: str) -> bool:
    """Whether there is such a command; what follows a command that has none below it is its argument."""
    here: Any = typer.main.get_command(app)
    for word in words.split():
        commands: dict[str, Any] | None = getattr(here, "commands", None)
        if commands is None:
            return True
        if word not in commands:
            return False
        here = commands[word]
    return True


def test_the_search_finds_what_it_should() -> None:
    """A command that is there is told from one that is not."""
    assert exists("flows resume")
    assert exists("login again")
    assert not exists("tenants levitate")
    assert COMMAND.findall(f"Do `{CLI} flows resume`, then {CLI} up --plan x") == ["flows resume", "up"]


@pytest.mark.parametrize("hint", sorted({hint for hint in hints() if COMMAND.search(hint)}))
def test_a_hint_names_commands_that_exist(hint: str) -> None:
    """Nobody is sent to a command that is not there."""
    for words in COMMAND.findall(hint):
        assert exists(words), words
