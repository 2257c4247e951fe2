"""The reference pages say what the code does: two are made from it, the others are held against it."""

from __future__ import annotations

import re
import runpy
import tomllib
from html import unescape
from pathlib import Path

import pytest
from systemprompt_cloud import errors
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.io.cloud import wire
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.io.local.tenants import StoredTenant
from systemprompt_cloud.machines.every import MACHINES
from systemprompt_cloud.sandbox.api import API

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
RECORDS = [
    each
    for each in vars(wire).values()
    if isinstance(each, type) and issubclass(each, wire.Message) and each.__module__ == wire.__name__
]
WORDS = [
    word
    for each in (wire.ProvisioningEventType, wire.SubscriptionStatus, wire.TenantInfoStatus, wire.ActivityEvent)
    for word in each
]
PROMISES = re.findall(r"^(\d+)\. (.*(?:\n {3,}.*)*)", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
DETAILS = re.findall(
    r"^## SECURITY (\d+)\n(.*?)(?=^## |\Z)",
    (ROOT / "docs" / "security" / "promises.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """The pages as `docs/build_reference.py` makes them now."""
    return runpy.run_path(str(ROOT / "docs" / "build_reference.py"))["pages"]()


@pytest.mark.parametrize("name", ["cli.md", "errors.md"])
def test_the_committed_page_is_current(name: str, made: dict[str, str]) -> None:
    """An option or an error changed without its page fails here; `python docs/build_reference.py` mends it."""
    assert (REFERENCE / name).read_text(encoding="utf-8") == made[name]


def test_every_error_and_every_exit_code_has_its_line(made: dict[str, str]) -> None:
    """No kind of error, and no exit code, is left out of the pages."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, CloudError)]
    assert [kind.__name__ for kind in kinds if f"`{kind.__name__}`" not in made["errors.md"]] == []
    codes = [value for name, value in vars(errors).items() if name.startswith("EXIT_")]
    assert [code for code in codes if f"| `{code}` |" not in made["cli.md"]] == []


def test_no_hint_names_a_command_that_is_not_there(made: dict[str, str]) -> None:
    """What an error tells people to type can be typed."""
    sections = set(re.findall(r"^#+ `systemprompt-cloud ([a-z ]+)`$", made["cli.md"], re.MULTILINE))
    for named in re.findall(r"systemprompt-cloud ((?:flows )?[a-z]+)", made["errors.md"]):
        assert named in sections, named


@pytest.fixture(scope="module")
def wire_page() -> str:
    """The page about the API and the files."""
    return (REFERENCE / "wire.md").read_text(encoding="utf-8")


def test_the_wire_page_has_every_call_of_the_local_cloud(wire_page: str) -> None:
    """What the local cloud answers stands in the table of calls, by method and path."""
    for call in API:
        path = re.sub(r"\{(\w+)\}", lambda found: "{id}" if found[1] == "id" else f"{{{found[1]}}}", call.path)
        if "provisioned-secrets" not in path:  # its address is the server's own business: `secrets_url` says it
            assert f"| {call.method} `{path}" in wire_page, call


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_the_wire_page_has_every_field_of_a_record(record: type[wire.Message], wire_page: str) -> None:
    """A field that is read or sent stands on the page."""
    assert [name for name in record.__struct_fields__ if not re.search(rf"\b{name}\b", wire_page)] == []


def test_the_wire_page_has_every_word_region_and_file(wire_page: str) -> None:
    """Words of enumerations, regions, the fields of the two shared files, and the names of all files."""
    fields = [*CloudCredentials.__struct_fields__, *StoredTenant.__struct_fields__]
    names = [*WORDS, *wire.REGIONS, *wire.OAuthProvider, *(name for name in fields if name != "unknown_fields")]
    assert [name for name in names if not re.search(rf"\b{name}\b", wire_page)] == []
    paths = CloudPaths(directory=Path("d"), state_directory=Path("d"), origin="explicit")
    files = [paths.credentials, paths.tenants, paths.journal, paths.vault, paths.owners]
    assert [path.name for path in files if path.name not in wire_page] == []


def test_the_promises_are_numbered_as_code_and_tests_count_them() -> None:
    """`SECURITY n` anywhere means promise n of SECURITY.md, of which there are sixteen, each with its details."""
    assert [int(number) for number, _ in PROMISES] == list(range(1, 17))
    assert [int(number) for number, _ in DETAILS] == list(range(1, 17))
    sources = [path for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    cited = {
        int(number)
        for path in [*sources, *PAGES]
        for run in re.findall(r"SECURITY\s+(\d+(?:(?:, | and )\d+)*)", path.read_text())
        for number in re.findall(r"\d+", run)
    }
    assert cited <= set(range(1, 17))


@pytest.mark.parametrize(("number", "text"), PROMISES, ids=[number for number, _ in PROMISES])
def test_a_promise_is_short_and_leads_to_its_details(number: str, text: str) -> None:
    """Three lines at most; what explains it and holds it is one link away."""
    assert len(text.splitlines()) <= 3
    assert f"](docs/security/promises.md#security-{number})" in text


@pytest.mark.parametrize(("number", "text"), DETAILS, ids=[number for number, _ in DETAILS])
def test_what_holds_a_promise_is_there(number: str, text: str) -> None:
    """Every file a promise names exists and every test it names is in that file; one without either says why."""
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)(?:::(test_\w+))?`", text)
    assert any(test for _, test in named) or "Not built" in text, f"SECURITY {number} names no test that checks it"
    for path, test in named:
        assert (ROOT / path).is_file(), f"SECURITY {number}: {path}"
        assert not test or f"def {test}(" in (ROOT / path).read_text(), f"SECURITY {number}: {path}::{test}"


def test_the_reliability_page_is_short_and_leads_to_every_subject() -> None:
    """It is read to its end: tables and measurements are in the pages it links to."""
    page = (ROOT / "RELIABILITY.md").read_text()
    assert len(page.splitlines()) <= 120
    subjects = sorted((ROOT / "docs" / "reliability").glob("*.md"))
    assert [each.name for each in subjects if f"](docs/reliability/{each.name})" not in page] == []


def test_every_page_is_in_the_index() -> None:
    """Who reads docs/README.md finds every page, and README.md leads there."""
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        if page.name != "README.md":
            assert f"]({page.relative_to(ROOT / 'docs')})" in index, page.name
    assert "](docs/README.md)" in (ROOT / "README.md").read_text()


def test_the_table_of_rooms_names_every_room() -> None:
    """Who looks for a folder of the package in ARCHITECTURE.md finds its row, or its name in the row of its parent."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    places = [name.split(".")[1:] for name in rooms if "." in name and name != "systemprompt_cloud.io"]
    missing = [place for place in places if f"`{'/'.join(place)}/`" not in page and f"`{place[-1]}/`" not in page]
    assert missing == []


def test_the_pages_name_files_that_are_there() -> None:
    """A file that moved and is still named by its old place fails here."""
    named = {(page, name) for page in PAGES for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)\b", page.read_text())}
    missing = [
        f"{page.name}: {name}"
        for page, name in sorted(named)
        if not ((ROOT / name).is_file() or (ROOT / "engine" / name).is_file())
    ]
    assert missing == []


def test_the_table_of_the_engine_names_every_file() -> None:
    """Who looks for something in the engine finds every file of it in ARCHITECTURE.md's table."""
    table = (ROOT / "ARCHITECTURE.md").read_text().partition("## The engine, file by file")[2].partition("\n## ")[0]
    files = {str(path.relative_to(ROOT / "engine")) for path in (ROOT / "engine").rglob("*.py")}
    named = set(re.findall(r"`([a-z_/]+\.py)`", table))
    assert {name for name in files if not name.endswith("__init__.py")} == named


def test_the_picture_shows_what_the_demo_says_today() -> None:
    """README's picture describes each state as its machine does; `python -m docs.picture` makes it anew."""
    lines: dict[str, str] = {}
    for y, text in re.findall(r'<text [^>]*y="([\d.]+)"[^>]*>([^<]*)</text>', (ROOT / "docs" / "demo.svg").read_text()):
        lines[y] = lines.get(y, "") + unescape(text).replace("\xa0", " ")
    shown = [found.groups() for line in lines.values() if (found := re.match(r"  \d:\d\d +(\w+) +(\w.+?) *$", line))]
    meanings = {(machine.name, state.meaning) for machine in MACHINES for state in machine.states.values()}
    assert len(shown) > 10
    described = [(machine, text.partition(" (up to ")[0]) for machine, text in shown]
    assert [each for each in described if each not in meanings] == []
