"""Every command and every snippet of the documentation does what it says, against a local cloud."""

import os
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.sandbox import serve_sandbox
from systemprompt_cloud.testing.browser import ScriptedBrowser
from systemprompt_cloud.testing.processes import Person, run_command

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("diagrams/**/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [body for found, body in BLOCK.findall(page.read_text()) if found == language]


def commands(page: Path) -> list[list[str]]:
    """Every command line a page shows."""
    lines = [line for body in blocks(page, "console") for line in body.splitlines() if line.startswith("$ ")]
    return [shlex.split(line[2:], comments=True) for line in lines]


async def leave_a_login_behind(environ: dict[str, str]) -> None:
    """What somebody who wants to resume has: a login that was interrupted while the browser was open."""
    async with run_command("login", "--port", "0", environ=environ) as command:
        await command.wait_for("/sandbox/consent/")
        command.process.send_signal(signal.SIGINT)
        await command.wait()


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
async def test_every_command_of_a_page_works_in_order(page: Path, tmp_path: Path) -> None:
    """The commands of a page, run one after the other as a reader would, each end well."""
    async with serve_sandbox(step_seconds=0.05) as sandbox, trio.open_nursery() as tabs:
        environ = {
            "HOME": str(tmp_path),
            "SYSTEMPROMPT_DIR": str(tmp_path / ".systemprompt"),
            "SYSTEMPROMPT_API_URL": sandbox.url,
            "SSH_CONNECTION": "a shell without a screen",
            "DISPLAY": "",
        }
        person = Person(ScriptedBrowser(), tabs, only="/sandbox/")
        for line in commands(page):
            words = line
            if words[0] == "export":
                continue  # the variables are set already, to this test's own cloud and directory
            if words[0] == "make":
                await trio.run_process(["make", "-n", *words[1:]], cwd=ROOT, capture_stdout=True)
                continue
            given = None
            if words[0] == "printf":
                given, words = words[1], words[3:]
            assert words[0] == "systemprompt-cloud", words
            if words[1:3] == ["flows", "resume"]:
                await leave_a_login_behind(environ)
            async with run_command(*words[1:], environ=environ, given=given) as command, trio.open_nursery() as nursery:
                nursery.start_soon(person.follow, command)
                if words[1] == "sandbox":
                    await command.wait_for("http://127.0.0.1:")
                    command.process.send_signal(signal.SIGINT)
                code = await command.wait()
                nursery.cancel_scope.cancel()
            assert code == 0, f"{shlex.join(words)}: {command.stdout}{command.stderr}"
        tabs.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page in PAGES for number in range(len(blocks(page, "python")))],
    ids=lambda value: value.name if isinstance(value, Path) else str(value),
)
async def test_every_snippet_of_a_page_runs(page: Path, number: int, tmp_path: Path) -> None:
    """A snippet, copied into a file, runs to its end."""
    script = tmp_path / "snippet.py"
    script.write_text(blocks(page, "python")[number])
    async with serve_sandbox(step_seconds=0.05) as sandbox, trio.open_nursery() as tabs:
        environ = {
            **os.environ,
            "HOME": str(tmp_path),
            "SYSTEMPROMPT_DIR": str(tmp_path / ".systemprompt"),
            "SYSTEMPROMPT_API_URL": sandbox.url,
            "PYTHONUNBUFFERED": "1",
            "DISPLAY": "",
        }
        async with run_command(argv=[sys.executable, str(script)], environ=environ) as command:
            seen: set[str] = set()
            while not command.finished:
                for url in re.findall(r"http://\S+/sandbox/\S+", command.stdout.rpartition("\n")[0]):
                    if url not in seen:
                        seen.add(url)
                        tabs.start_soon(ScriptedBrowser().visit, url)
                await command.wait_words()
            assert await command.wait() == 0, command.stdout + command.stderr
        assert command.stdout
        tabs.cancel_scope.cancel()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    """A relative link names a file of the repository."""
    for target in LINK.findall(page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
