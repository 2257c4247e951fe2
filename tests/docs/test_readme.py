"""Every command and every snippet of the documentation does what it says, against a local cloud."""

import re
import shlex
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.sandbox import serve_sandbox
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.command import CommandLine, Running, along, clean_environ

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("diagrams/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
PYTHONS = (".venv/bin/python", ".venv/bench/bin/python", "python")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [body for found, body in BLOCK.findall(page.read_text()) if found == language]


@dataclass(frozen=True)
class Shown:
    """A command line of a page, and the output that the page shows below it."""

    words: list[str]
    output: list[str]


def commands(page: Path) -> list[Shown]:
    """Every command line a page shows."""
    shown: list[Shown] = []
    for line in (line for body in blocks(page, "console") for line in body.splitlines()):
        if line.startswith("$ "):
            shown.append(Shown(shlex.split(line[2:], comments=True), []))
        else:
            shown[-1].output.append(line)
    return shown


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, named as GitHub names them."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(FENCED.sub("", page.read_text())):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {f"{slug}-{number}" if number else slug for slug, last in found.items() for number in range(last + 1)}


def at_home(home: Path, api_url: str, *, real: bool = False) -> CommandLine:
    """The command line of a reader in an empty home, at a shell without a screen."""
    environ = {
        "HOME": str(home),
        "SYSTEMPROMPT_DIR": str(home / ".systemprompt"),
        "SYSTEMPROMPT_API_URL": api_url,
        "SSH_CONNECTION": "a shell without a screen",
    }
    return CommandLine(home, clean_environ() | environ, real=real)


def leave_a_login_behind(cli: CommandLine) -> None:
    """What somebody who wants to resume has: a login that was interrupted while the browser was open."""
    running = cli.begin("login", "--port", "0")
    running.wait_invited()
    running.interrupt()
    running.wait()


FREE_PORTS = {
    "sandbox": ["--port", "0"],
    "login": ["--port", "0"],
    "checkout": ["--port", "0"],
    "up": ["--login-port", "0", "--checkout-port", "0"],
}
"""The ports a page names, or leaves as they are, may be somebody else's on this computer: the last option counts."""


def follow_python(line: list[str]) -> None:
    """Check a `python -m` line without its minutes of work: modules, options, and the tests it selects exist."""
    assert line[0] == "-m", line
    module, *words = line[1:]
    if module == "pytest":
        missing = [word for word in words if word.startswith("tests/") and not (ROOT / word).exists()]
        assert missing == []
        if "-k" in words:  # only collecting shows whether it selects anything
            subprocess.run([sys.executable, *line, "--collect-only"], cwd=ROOT, capture_output=True, check=True)
        return
    command = [sys.executable, "-m", module, *words, "--help"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", ran.stdout), f"{module} has no {option}"


def follow(cli: CommandLine, shown: Shown) -> None:
    """Do what a line of a page says, as a reader would; AssertionError if it does not end well."""
    given, line = "", list(shown.words)
    while re.fullmatch(r"[A-Z_]+=\S+", line[0]):
        line.pop(0)
    if line[0] == "printf":
        given, line = line[1], line[3:]
    program, *words = line
    if program == "export":
        return  # the variables are set already, to this test's own cloud and directory
    if program == "make":
        subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, check=True)
        return
    if program in PYTHONS:
        follow_python(words)
        return
    assert program == "systemprompt-cloud", line
    if words[:2] == ["flows", "resume"]:
        leave_a_login_behind(cli)
    cwd = ROOT if "--against" in words else None  # the recordings a page names are in this repository
    running = cli.begin(*words, *FREE_PORTS.get(words[0], []), browser=ScriptedBrowser(), cwd=cwd, listening=True)
    running.say(given)
    if words[0] == "sandbox":
        running.wait_for("http://127.0.0.1:")
        running.interrupt()
    ran = running.wait().ended(0)
    for output in shown.output:
        assert output in [*ran.out.splitlines(), *ran.err.splitlines()], f"{shlex.join(line)} does not print: {output}"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
async def test_every_command_of_a_page_works_in_order(page: Path, tmp_path: Path) -> None:
    """The commands of a page, run one after the other as a reader would, each end well; README's in interpreters."""
    async with serve_sandbox(step_seconds=0.05) as sandbox:
        with closing(at_home(tmp_path, sandbox.url, real=page.name == "README.md")) as cli:
            for shown in commands(page):
                await along(partial(follow, cli, shown))


async def run_snippet(page: Path, number: int, home: Path, browser: ScriptedBrowser) -> str:
    """Copy a snippet into a file and run that to its end, with somebody at the browser; what it prints."""
    script = home / "snippet.py"
    script.write_text(blocks(page, "python")[number])
    async with serve_sandbox(step_seconds=0.05) as sandbox, trio.open_nursery() as tabs:
        environ = at_home(home, sandbox.url).environ | {"PYTHONUNBUFFERED": "1"}
        with Running([sys.executable, str(script)], environ=environ) as running:
            seen: set[str] = set()

            def shown() -> set[str]:
                return set(re.findall(r"http://\S+/sandbox/\S+", running.out.rpartition("\n")[0])) - seen

            while not running.finished:
                await along(lambda: running.wait_until(lambda: running.finished or bool(shown()), "show an address"))
                for url in shown():
                    seen.add(url)
                    tabs.start_soon(browser.visit, url)
            ran = running.wait().ended(0)
        tabs.cancel_scope.cancel()
    return ran.out


@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page in PAGES for number in range(len(blocks(page, "python")))],
    ids=lambda value: value.name if isinstance(value, Path) else str(value),
)
async def test_every_snippet_of_a_page_runs(page: Path, number: int, tmp_path: Path) -> None:
    """A snippet, copied into a file, runs to its end."""
    assert await run_snippet(page, number, tmp_path, ScriptedBrowser())


async def test_the_example_of_embedding_tells_of_a_declined_payment(tmp_path: Path) -> None:
    """Who copies it has a program that does not break when somebody changes their mind."""
    out = await run_snippet(ROOT / "docs/guides/embed.md", 0, tmp_path, ScriptedBrowser(payment="decline"))
    assert out.splitlines()[-1].startswith("paused: it is not known whether the order ")
    assert "the browser reported payment_declined" in out.splitlines()[-1]
    assert "the tenant is" not in out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    """A relative link names a file of the repository, and its `#anchor` a heading of that page."""
    for target in LINK.findall(FENCED.sub("", page.read_text())):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert linked.suffix == ".md", f"{page.name}: {target}"
            assert anchor in anchors(linked), f"{page.name}: {target}"


def test_anchors_are_named_as_github_names_them(tmp_path: Path) -> None:
    """Punctuation goes, spaces become hyphens, a second heading of the same name is numbered, code is no heading."""
    page = tmp_path / "page.md"
    page.write_text("# A b, `c d` (e)\n## [Linked](x.md)\n## Twice\n```sh\n# no heading\n```\n### Twice\n")
    assert anchors(page) == {"a-b-c-d-e", "linked", "twice", "twice-1"}
