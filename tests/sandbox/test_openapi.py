"""Tests of sandbox/openapi.py: the description itself; what it promises is tried in test_schemathesis.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.sandbox import serve_sandbox
from systemprompt_cloud.sandbox.api import API
from systemprompt_cloud.sandbox.openapi import description
from systemprompt_cloud.sandbox.requests import DOMAIN, IMAGE, SECRET_NAME, TIMESTAMP

RECORDED = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
OPERATIONS: list[tuple[str, str, dict[str, Any]]] = [
    (path, method, operation)
    for path, methods in description()["paths"].items()
    for method, operation in methods.items()
]


async def test_it_is_served_to_anybody(http: httpx.AsyncClient) -> None:
    """Without a token, as JSON, and the same every time."""
    async with serve_sandbox() as sandbox:
        answer = await http.get(f"{sandbox.url}/openapi.json")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json() == json.loads(json.dumps(description()))


def test_the_recorded_description_is_current() -> None:
    """A change of the API shows in a file people can read; `python docs/build_reference.py` mends it."""
    assert json.loads(RECORDED.read_text(encoding="utf-8")) == json.loads(json.dumps(description()))


def test_every_call_is_described_once_and_nothing_else() -> None:
    """The rows of the router's table, by method and path, under distinct names."""
    assert sorted((method.upper(), path) for path, method, _ in OPERATIONS) == sorted((c.method, c.path) for c in API)
    assert len({operation["operationId"] for _, _, operation in OPERATIONS}) == len(API)
    assert all(operation["summary"] for _, _, operation in OPERATIONS)


def test_every_reference_leads_somewhere() -> None:
    """No `$ref` of the document points at a part that is not there."""
    document = json.loads(json.dumps(description()))
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    assert references
    for reference in references:
        part = document
        for name in reference.split("/"):
            part = part[name]


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=[o["operationId"] for _, _, o in OPERATIONS])
def test_an_operation_says_what_can_go_wrong(path: str, method: str, operation: dict[str, Any]) -> None:
    """Who may ask, what may be missing, what may be wrong with the body: where it can happen, it is described."""
    refusals = {status for status in operation["responses"] if not status.startswith("2")}
    assert ("401" in refusals) is (operation.get("security") != [])
    assert ("404" in refusals) is ("{" in path)
    assert ("415" in refusals) is ("requestBody" in operation)
    assert ("422" in refusals) is (method != "get")
    assert re.findall(r"\{(\w+)\}", path) == [
        parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"
    ]
    assert any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"]) is (method != "get")


@given(st.sampled_from([DOMAIN, IMAGE, SECRET_NAME, TIMESTAMP]), st.data())
def test_no_pattern_lets_a_line_break_through(pattern: str, data: st.DataObject) -> None:
    """What Python's `$` would overlook is part of no name (it means the same to JSON Schema)."""
    text = data.draw(st.from_regex(pattern))
    assert re.match(pattern, text)
    assert not re.search(r"\s", text)
    assert not re.match(pattern, text + "\n")
