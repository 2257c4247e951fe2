"""Tab: what the shell is offered, by the scripts of today and by those of earlier releases."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from systemprompt_cloud.cli.shared.completion import FAULTS, MACHINES
from systemprompt_cloud.cli.tab import Asked, variable
from systemprompt_cloud.machines import every
from systemprompt_cloud.sandbox import faults

from tests.support.command import COMMAND, CommandLine, Ran
from tests.support.missing import missing

from .conftest import offered

VARIABLE = "_SYSTEMPROMPT_CLOUD_COMPLETE"


def asked(cli: CommandLine, instruction: str, line: str = "", **more: str) -> Ran:
    """Ask as a shell does that has this line before its cursor."""
    words = line.split(" ")
    typer = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_WORD_TO_COMPLETE": words[-1]}
    number = words[-1] if instruction == "fish_complete" else str(len(words) - 1)
    environ = {VARIABLE: instruction, "COMP_WORDS": line, "COMP_CWORD": number, **typer, **more}
    ran = CommandLine(cli.home, cli.environ | environ)()
    assert ran.err == ""
    return ran


def test_tenants(owner: tuple[CommandLine, str]) -> None:
    """Ids of stored tenants, wherever a tenant is named."""
    cli, tenant = owner
    assert offered(cli, "tenants", "show", tenant[:4]) == [tenant]
    assert offered(cli, "secrets", "list", "--tenant", "") == [tenant]


def test_flows(owner: tuple[CommandLine, str]) -> None:
    """Ids of flows, wherever a flow is named; also in the directory that is named before them."""
    cli, _ = owner
    (row,) = cli("flows", "list", "--json").ended(0).lines
    for words in (["show"], ["resume"], ["watch"], ["cancel", "--reason", "x"]):
        assert offered(cli, "flows", *words, row["flow"][:3]) == [row["flow"]]
    assert offered(cli, "diagram", "--flow", "") == [row["flow"]]
    assert offered(cli, "--dir", "elsewhere", "flows", "show", "") == []


def test_commands(cli: CommandLine) -> None:
    """The commands themselves, and their options."""
    assert offered(cli, "ten") == ["tenants"]
    assert offered(cli, "flows", "re") == ["resume", "restore"]
    assert offered(cli, "--json", "flows", "re") == ["resume", "restore"]
    assert offered(cli, "whoami", "--ch") == ["--check"]
    assert offered(cli, "login", "--provider", "goo") == ["google"]


def test_values(cli: CommandLine) -> None:
    """Values that are one of a few: environments, machines, regions, faults; each list has all there are."""
    assert (tuple(each.name for each in every.MACHINES), tuple(faults.FAULTS)) == (MACHINES, FAULTS)
    assert offered(cli, "--env", "pro") == ["production"]
    assert offered(cli, "diagram", "log") == ["login"]
    assert offered(cli, "flows", "list", "--machine", "che") == ["checkout"]
    assert offered(cli, "up", "--region", "ia") == ["iad"]
    assert offered(cli, "sandbox", "--fault", "drop") == [name for name in FAULTS if name.startswith("drop")]


def test_trouble_is_silent(owner: tuple[CommandLine, str]) -> None:
    """Where the files cannot be read nothing is offered, and nothing is said."""
    cli, _ = owner
    (cli.directory / "tenants.json").write_text("{")
    assert offered(cli, "tenants", "show", "") == []
    assert offered(cli, "flows", "show", "") != []


@pytest.mark.parametrize(
    ("instruction", "line", "answer"),
    [
        ("complete_bash", "systemprompt-cloud whoami --ch", "--check\n"),
        ("complete_zsh", "systemprompt-cloud doct", '_arguments \'*: :(("doctor":"Diagnose problems."))\'\n'),
        ("complete_zsh", "systemprompt-cloud xyz", "_files\n"),
        ("complete_zsh", "systemprompt-cloud plan", '_arguments \'*: :(("plans":"List the plans there are."))\'\n'),
        ("complete_fish", "systemprompt-cloud doct", "doctor\tDiagnose problems.\n"),
        ("complete_powershell", "systemprompt-cloud doct", "doctor:::Diagnose problems.\n"),
        ("complete_pwsh", "systemprompt-cloud flows resu", "resume:::Resume a flow where it stopped.\n"),
        ("bash_complete", "systemprompt-cloud doct", "plain,doctor\n"),
        ("bash_complete", "systemprompt-cloud diagram -o ", "file,\n"),
        ("zsh_complete", "systemprompt-cloud doct", "plain\ndoctor\nDiagnose problems.\n"),
        ("fish_complete", "systemprompt-cloud doct", "plain,doctor\tDiagnose problems.\n"),
        ("fish_complete", "systemprompt-cloud flows resu", "plain,resume\tResume a flow where it stopped.\n"),
    ],
)
def test_every_shell_is_answered_in_its_own_way(cli: CommandLine, instruction: str, line: str, answer: str) -> None:
    """`complete_bash` asks for a script of an earlier release (Typer's), `bash_complete` for one of today (click's)."""
    ran = asked(cli, instruction, line, _TYPER_COMPLETE_FISH_ACTION="get-args").ended(0)
    assert ran.out == answer


def test_fish_asked_earlier_whether_there_is_anything(cli: CommandLine) -> None:
    """The script of an earlier release offers files where the answer is 1."""
    assert asked(cli, "complete_fish", "systemprompt-cloud ten", _TYPER_COMPLETE_FISH_ACTION="is-args").code == 0
    assert asked(cli, "complete_fish", "systemprompt-cloud xyz", _TYPER_COMPLETE_FISH_ACTION="is-args").code == 1


def test_nothing_is_answered_to_an_unknown_shell(cli: CommandLine) -> None:
    """Nor is a command run; a variable that is empty asks nothing."""
    assert asked(cli, "complete_tcsh", "systemprompt-cloud ").ended(1).out == ""
    assert asked(cli, "nonsense").ended(1).out == ""
    assert (
        CommandLine(cli.home, cli.environ | {VARIABLE: ""})("--version").ended(0).out.startswith("systemprompt-cloud ")
    )


@pytest.mark.parametrize("typed", ["flows 'show", 'flows "show', "flows sho\\w", "flows 'sh'ow"])
def test_a_word_in_quotes_is_the_same_word(typed: str) -> None:
    """Also while the quotes are still open."""
    found = Asked("bash_complete", {"COMP_WORDS": f"spc {typed}", "COMP_CWORD": "2"})
    assert (found.words, found.incomplete) == (["flows"], "show")


def test_each_name_has_its_variable() -> None:
    """As click and Typer both name it."""
    assert (variable("systemprompt-cloud"), variable("spc")) == (VARIABLE, "_SPC_COMPLETE")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_shown(cli: CommandLine, shell: str) -> None:
    """For the shell that is here, and for the one that asks, as either release asked."""
    shown = cli("--show-completion", PATH="", SHELL=f"/bin/{shell}").ended(0).out
    assert f"{VARIABLE}={shell}_complete" in shown
    assert asked(cli, f"{shell}_source").ended(0).out == shown
    assert asked(cli, f"source_{shell}").ended(0).out == shown


@pytest.mark.parametrize(
    ("shell", "file", "start_up"),
    [
        ("bash", ".bash_completions/systemprompt-cloud.sh", ".bashrc"),
        ("zsh", ".zfunc/_systemprompt-cloud", ".zshrc"),
        ("fish", ".config/fish/completions/systemprompt-cloud.fish", None),
    ],
)
def test_the_script_is_installed(cli: CommandLine, shell: str, file: str, start_up: str | None) -> None:
    """Where an earlier release put it; a line of the shell's start-up file is added once, the others stay."""
    if start_up:
        (cli.home / start_up).write_text("alias x=y")
    for _ in range(2):
        ran = cli("--install-completion", PATH="", SHELL=f"/bin/{shell}").ended(0)
        assert ran.err == f"Completion for {shell} was installed in {cli.home / file}. It works in the next terminal.\n"
    shown = cli("--show-completion", PATH="", SHELL=f"/bin/{shell}").ended(0).out
    assert (cli.home / file).read_text() == shown
    if start_up:
        first, *lines = (cli.home / start_up).read_text().splitlines()
        assert (first, len(lines)) == ("alias x=y", 1)
    told = cli("--json", "--install-completion", PATH="", SHELL=f"/bin/{shell}").ended(0).lines
    assert told == [{"shell": shell, "file": str(cli.home / file)}]


def test_a_shell_without_a_script_is_told_which_have_one(cli: CommandLine) -> None:
    """Nothing is written for it."""
    ran = cli("--install-completion", PATH="", SHELL="/bin/tcsh").ended(2)
    assert "bash, zsh, fish" in ran.err
    assert list(cli.home.iterdir()) == []


def test_a_file_that_cannot_be_written_is_named(cli: CommandLine) -> None:
    """With the cause, and nothing of the person's is changed."""
    (cli.home / ".bash_completions").write_text("")
    ran = cli("--install-completion", PATH="", SHELL="/bin/bash").ended(1)
    assert f"cannot install completion: {cli.home / '.bash_completions'}" in ran.err
    assert not (cli.home / ".bashrc").exists()


OLD_BASH = """
_systemprompt_cloud_completion() {
    local IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" \\
                   COMP_CWORD=$COMP_CWORD \\
                   _SYSTEMPROMPT_CLOUD_COMPLETE=complete_bash $1 ) )
    return 0
}
complete -o default -F _systemprompt_cloud_completion systemprompt-cloud
"""
"""What release 0.1.0 installed."""


@pytest.mark.parametrize("release", ["old", "new"])
def test_bash_itself_completes(cli: CommandLine, tmp_path: Path, release: str) -> None:
    """The script in a real bash, with the command on its PATH."""
    if shutil.which("bash") is None:
        missing("bash is not installed (apt-get install bash)")
    script = OLD_BASH if release == "old" else cli("--show-completion", PATH="", SHELL="/bin/bash").ended(0).out
    program = tmp_path / "systemprompt-cloud"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    line = "COMP_WORDS=(systemprompt-cloud flows resu); COMP_CWORD=2; _systemprompt_cloud_completion systemprompt-cloud"
    path = f"{tmp_path}:{cli.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "--norc", "-c", f'{script}\n{line}; echo "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        env=cli.environ | {"PATH": path},
        cwd=cli.home,
        check=True,
    )
    assert ended.stdout == "resume\n"
