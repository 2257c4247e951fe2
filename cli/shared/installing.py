"""`--install-completion` and `--show-completion`: click's script for the shell, and where the shell reads it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import click

from ...base.errors import Io
from ..screen.terminal import put_json, say
from ..tab import variable

SHELLS: Final = ("bash", "zsh", "fish")


def shell_here() -> str:
    """The shell that started the program, else the person's login shell.

    Raises:
        click.UsageError: It is none for which there is a script.
    """
    for name in (_parent(), Path(os.environ.get("SHELL", "")).name):
        if name in SHELLS:
            return name
    raise click.UsageError(f"completion is there for {', '.join(SHELLS)}, and this shell is none of them")


def _parent() -> str:
    """The name of the process that started this one; empty where it cannot be found out."""
    try:
        found = subprocess.run(  # noqa: S603 nothing of it was typed
            ["ps", "-o", "comm=", "-p", str(os.getppid())],  # noqa: S607 wherever ps is
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return Path(found.stdout.strip().lstrip("-")).name


def script(program: click.Command, shell: str, name: str) -> str:
    """What the shell has to read to complete the program of this name; empty where click has no script for it."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        return ""
    made = kind(program, {}, name, variable(name))
    return (made.source_template % made.source_vars()).strip()  # `source()` starts a bash to look at its version


def install(program: click.Command, name: str, *, wants_json: bool) -> None:
    """Write the script where the shell that is here reads it, in place of an older one.

    Args:
        program: The commands.
        name: What the program is called.
        wants_json: Whether a program reads what is printed.

    Raises:
        Io: A file cannot be written.
    """
    shell, home = shell_here(), Path.home()
    file = {
        "bash": home / ".bash_completions" / f"{name}.sh",
        "zsh": home / ".zfunc" / f"_{name}",
        "fish": home / ".config" / "fish" / "completions" / f"{name}.fish",
    }[shell]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(script(program, shell, name) + "\n", encoding="utf-8")
        if shell == "bash":
            _add_line(home / ".bashrc", f"source '{file}'")
        elif shell == "zsh":
            _add_line(home / ".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit")
    except OSError as exc:
        raise Io(f"cannot install completion: {exc.filename}: {exc.strerror}") from exc
    if wants_json:
        put_json({"shell": shell, "file": str(file)})
    else:
        say(f"Completion for {shell} was installed in {file}. It works in the next terminal.")


def _add_line(file: Path, line: str) -> None:
    """Add a line to a shell's start-up file, once."""
    text = file.read_text(encoding="utf-8", errors="surrogateescape") if file.exists() else ""
    if line not in text.splitlines():
        with file.open("a", encoding="utf-8", errors="surrogateescape") as end:
            end.write(f"{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n")
