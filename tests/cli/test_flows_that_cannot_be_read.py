"""Flows of machines with names that are refused today, and flows with damaged records, at the command line.

Both are in journals. Whatever they are, a person can list them, look at them, take them away as a document, and end
them.
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from systemprompt_cloud.base.moments import moment_text
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.testing.clock import NEW_YEAR

from tests.support.command import CommandLine
from tests.support.rows import flow_record, flow_row

ROOT = "01jq0000000000000a"
NAMES = ["two words", "../up", "..", "小包", "", "'; --", "\u202eevil", "tab\tand\x1b[2J"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory of somebody's program."""
    return tmp_path / "flows"


def store(directory: Path, machine: str, **fields: Any) -> str:
    """A paused flow of a machine, and a child of the same machine inside it, as an older program stored them."""
    child = f"{ROOT}.{machine}-1"
    trouble = '{"kind":"Oops","message":"what?","hint":"Fix it.","code":8}'
    at = moment_text(NEW_YEAR)
    with Journal(directory / "journal.sqlite3") as journal:
        for flow, parent in ((ROOT, None), (child, ROOT)):
            values = {"machine": machine, "parent": parent, "state": machine or "somewhere", **fields}
            row = flow_row(flow, status="paused", trouble=trouble, created=at, updated=at, **values)
            record = flow_record(flow, to_state=row.state, from_state=row.state, at=at)
            journal.write([lambda row=row, record=record: journal.begin(row, record)])
    return child


def change(directory: Path, sql: str, *values: object) -> None:
    """Damage the journal."""
    with closing(sqlite3.connect(directory / "journal.sqlite3")) as journal, journal:
        assert journal.execute(sql, values).rowcount


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_flow_of_any_machine_can_be_looked_at_and_ended(cli: CommandLine, place: Path, name: str) -> None:
    """Listed, shown, its history told, exported, checked, cancelled; and its child with it."""
    child = store(place, name)
    at = ("--dir", str(place))
    assert ROOT[:12] in cli("flows", "list", *at).ended(0).out
    listed = cli("flows", "list", "--children", "--json", *at).ended(0).lines
    assert {(line["flow"], line["machine"]) for line in listed} == {(ROOT, name), (child, name)}
    assert "what?" in cli("flows", "show", ROOT, *at).ended(0).out
    assert cli("flows", "show", child, "--json", *at).ended(0).lines[0]["flow"] == child
    assert cli("flows", "history", ROOT, *at).ended(0).out
    assert cli("flows", "history", ROOT, "--json", *at).ended(0).lines[0]["machine"] == name
    assert "finite" not in cli("flows", "check", *at).ended(0).err
    document = json.loads(cli("flows", "export", ROOT, *at).ended(0).out)
    assert [flow["machine"] for flow in document["flows"]] == [name, name]
    assert "does not know the machine" in cli("flows", "resume", ROOT, *at).ended(1).err
    assert "cancelled" in cli("flows", "cancel", ROOT, *at).ended(0).err
    ended = cli("flows", "list", "--children", "--json", *at).ended(0).lines
    assert {(line["status"], line["verdict"]) for line in ended} == {("ended", "cancelled")}
    for words in (("list",), ("show", ROOT), ("history", ROOT), ("cancel", ROOT), ("check",)):
        said = cli("flows", *words, *at).ended(0)
        assert not re.search("[\u202e\x1b\t]", said.out + said.err)


DAMAGED: Final = [b"{", b"\xff\xfe", b"7"]
"""Cut off, no UTF-8, no object; more kinds are in `tests/engine/test_damaged_records.py`."""


@pytest.mark.parametrize("bytes_", DAMAGED, ids=lambda value: ascii(value[:12]))
@pytest.mark.parametrize("machine", ["login", "nobodys"])
@pytest.mark.parametrize("where", ["context", "trouble", "body"])
def test_a_damaged_text_makes_no_flow_unreachable(
    cli: CommandLine, place: Path, bytes_: bytes, machine: str, where: str
) -> None:
    """Of our machines or of others: no command ends with a traceback, and the flow can be ended."""
    store(place, machine, state="awaiting_callback")
    table = "events" if where == "body" else "flows"
    change(place, f"UPDATE {table} SET {where} = CAST(? AS TEXT)", bytes_)  # noqa: S608 our own names
    at = ("--dir", str(place))
    assert len(cli("flows", "list", "--children", "--json", *at).ended(0).lines) == 2
    for words in (("list",), ("show", ROOT), ("show", ROOT, "--json"), ("history", ROOT), ("history", ROOT, "--json")):
        assert ROOT[:12] in cli("flows", *words, *at).ended(0).out or words[0] == "history"
    flows = json.loads(cli("flows", "export", ROOT, "--json", *at).ended(0).out)["flows"]
    assert len(flows) == 2
    for words in (("check",), ("watch", ROOT), ("resume", ROOT)):
        ran = cli("flows", *words, *at)
        assert "Traceback" not in ran.err
        assert not re.search("JSON is|Expected `|codec", ran.out + ran.err)  # words of msgspec and Python
        assert ran.code in {0, 1, 8}
    assert "cancelled" in cli("flows", "cancel", ROOT, *at).ended(0).err
    ended = cli("flows", "list", "--children", "--json", *at).ended(0).lines
    assert {line["status"] for line in ended} == {"ended"}
    for words in (("show", ROOT), ("history", ROOT), ("export", ROOT), ("list",)):
        cli("flows", *words, *at).ended(0)


def test_what_was_damaged_is_in_the_document_as_it_is_stored(cli: CommandLine, place: Path) -> None:
    """For whoever repairs it; a secret in it is left out all the same."""
    store(place, "nobodys")
    change(place, "UPDATE flows SET context = CAST(? AS TEXT)", b'{"token": "hush", "name": "\xff')
    document = json.loads(cli("flows", "export", ROOT, "--dir", str(place)).ended(0).out)
    (text,) = {flow["context"]["damaged"] for flow in document["flows"]}
    assert text == '{"token": "***", "name": "�'
