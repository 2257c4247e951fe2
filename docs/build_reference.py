"""Makes `reference/cli.md`, `errors.md` and `openapi.json` there from the commands, the error tree and the local cloud.

python docs/build_reference.py

A test compares the committed pages with what is made here, so they cannot fall behind the code.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import click
import msgspec
from systemprompt_cloud import errors
from systemprompt_cloud.base import errors as base_errors
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.cli.app import app
from systemprompt_cloud.cli.fields import fields_of
from systemprompt_cloud.cli.screen.remedies import hint_of
from systemprompt_cloud.cli.shared.names import CLI
from systemprompt_cloud.engine import errors as engine_errors
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.sandbox.faults import FAULTS, fault_syntax
from systemprompt_cloud.sandbox.openapi import description

REFERENCE: Final = Path(__file__).resolve().parent / "reference"

_CLI_HEAD: Final = """\
# The command line

Made by `python docs/build_reference.py` from the commands; do not edit.

`systemprompt-cloud`, or `spc` for short. Data goes to stdout, messages to stderr. Nothing moves and nothing is coloured
off a terminal or with `NO_COLOR`. A secret is never an argument: `login --token-stdin` reads a token from stdin.

## Exit codes

The same for every command. Which error ends with which code is in [errors](errors.md).

"""
_CLI_FACTS: Final = """\

## Lines of `--json`

One JSON object a line on stdout, and nothing else there. `?` marks a field that may be absent.

| line | fields |
| --- | --- |
| a committed change of a flow | `flow`, `seq`, `at`, `machine`, `kind`, `event`, `from`, `to`, `message`? |
| the end of a flow | `flow`, `machine`, `state`, `verdict`, `result`, `problem`?, `code`?, `hint`? |
| interrupted | `flow`, `machine`, `state`, `verdict` (`pending`), `resume`: the command that resumes it |
| an error | `error` (its kind), `message`, `hint`, `exit_code`; about a flow also the fields of "interrupted" |

`--fields id,name` keeps only these fields, in this order. A field that a line lacks is `null`; a line with none of
them is left out. `--jq EXPR` filters each line with [jq](https://jqlang.org/manual/) and prints text without quotes;
it needs the extra `jq`. Errors are printed whole.

## Environment

| variable | what for |
| --- | --- |
| `SYSTEMPROMPT_DIR` | the directory, where `--dir` names none |
| `SYSTEMPROMPT_ACCOUNT` | the account, where `--account` names none |
| `SYSTEMPROMPT_API_URL` | the API, where neither `--api-url` nor `--env` names one |
| `SYSTEMPROMPT_LOCAL_URL` | the API `--env local` means |
| `SYSTEMPROMPT_API_TOKEN` | a login that goes before the stored one |
| `SYSTEMPROMPT_USER_EMAIL` | whose that token is; without it the API is asked |
| `SYSTEMPROMPT_KEYRING` | 1: logins go into the system's keyring, 0: into the file; unset: where the last one was |
| `BROWSER` | the command that opens a browser; several are separated by `:` |
| `HTTPS_PROXY`, `ALL_PROXY` | the proxy: `http://`, `https://`, or `socks5://` with the extra `socks` |
| `NO_PROXY` | hosts without a proxy: `corp.example`, `*.corp.example`, `10.0.0.0/8`, `[::1]:8080`, `*` |
| `SSL_CERT_FILE` | other certificate authorities than the usual ones |
| `NO_COLOR` | no colour |

"""
_ERRORS_HEAD: Final = """\
# Errors

Made by `python docs/build_reference.py` from `errors.py`, `base/errors.py` and `engine/errors.py`; do not edit.

Every error this package raises on purpose is a `CloudError`. It carries `user_message` (what happened, to which file,
URL, flow or option), `recovery_hint` (what to do, without commands), `remedy` (the same as a step a program can
decide by), `requires_login`, `requires_setup`, `retryable` (the same call
may succeed a moment later by itself), `exit_code`, and `request_id`, which also ends the message, when it is about a
request the API's operators can find; `kind` is its name, for `--json` and the journal. The tables show the hint of each
kind as the command line prints it; a single error may have a better one. Words in capitals are what the error names.
The exit code is what the command line ends with, unless the error stops a flow: that pauses it (`FlowParked`), and
the command ends with 8, or with 4 where a login is needed, whatever the kind. The kind `UsageError` in a line of
`--json` (exit code 2) is no `CloudError`: the command line was mistyped.

"""


def cli_page() -> str:
    """The text of `cli.md`."""
    commands = _commands(app, CLI, None)
    text = "".join([_CLI_HEAD, _table(["code", "when"], exit_codes()), _CLI_FACTS, *commands])
    return text.rstrip("\n") + "\n"


def exit_codes() -> list[list[str]]:
    """Each exit code and what it means, as the error tree says it."""
    found = re.search(r"Exit codes: (.*?)\.$", inspect.getdoc(errors) or "", re.DOTALL | re.MULTILINE)
    if found is None:
        raise LookupError("errors.py no longer says what its exit codes are")
    each = (one.split(" ", 1) for one in re.split(r",\s+", " ".join(found[1].split())))
    return [[f"`{code}`", meaning] for code, meaning in each]


def _commands(command: Any, words: str, parent: Any) -> Iterator[str]:
    """A section for a command, then those of the commands inside it."""
    # resilient_parsing: nothing is run, nothing is required, the context is only there to ask for help with.
    with command.make_context(words.rsplit(maxsplit=1)[-1], ["-"], parent=parent, resilient_parsing=True) as context:
        yield f"{'##' if len(words.split()) < 3 else '###'} `{words}`\n\n"
        yield f"{inspect.cleandoc(command.help)}\n\n"
        yield f"```text\n{' '.join([words, *command.collect_usage_pieces(context)])}\n```\n\n"
        for kind in ("argument", "option"):
            found = [each for each in command.get_params(context) if each.param_type_name == kind]
            records = [record for each in found if (record := each.get_help_record(context)) is not None]
            if records:
                yield _table([kind, "what"], [[f"`{name.strip()}`", what] for name, what in records]) + "\n"
        if words == f"{CLI} sandbox":
            yield _table(["fault, with its defaults", "what"], [[f"`{fault_syntax(n)}`", FAULTS[n]] for n in FAULTS])
            yield "\n"
        inner = command.list_commands(context) if isinstance(command, click.Group) else []
        if inner:
            links = (f"[{name}](#{'-'.join([*words.split(), name])})" for name in inner)
            yield f"Commands: {' · '.join(links)}\n\n"
        if known := fields_of(words.removeprefix(f"{CLI} ")):
            yield f"Fields of `--json`: {', '.join(f'`{each}`' for each in known)}\n\n"
        yield re.sub(r"^Example: (.*)$", r"Example: `\1`", command.epilog or "", flags=re.MULTILINE) + "\n\n"
        for name in inner:
            yield from _commands(command.get_command(context, name), f"{words} {name}", context)


def errors_page() -> str:
    """The text of `errors.md`."""
    parts = [_ERRORS_HEAD]
    for module, title, source in _families():
        kinds = [getattr(module, name) for name in re.findall(r"^class (\w+)\(", source, re.MULTILINE)]
        parts.append(f"## {title[:1].upper()}{title[1:]}\n\n")
        parts.append(
            _table(
                ["kind", "what happened", "hint at the command line", "requires", "retryable", "exit code"],
                map(_row, kinds),
            )
        )
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def _families() -> Iterator[tuple[ModuleType, str, str]]:
    """The families of errors, which are comments in the sources that draw a line: module, title, source."""
    for module in (errors, base_errors, engine_errors):
        _, *families = re.split(r"^# --- (.+?) -+$", inspect.getsource(module), flags=re.MULTILINE)
        for title, source in zip(families[::2], families[1::2], strict=True):
            yield module, title, source


def _row(kind: type[CloudError]) -> list[str]:
    what, _, rest = (inspect.getdoc(kind) or "").partition("\n\n")
    carried = re.findall(r"^    (\w+): ", rest.partition("Attributes:")[2], re.MULTILINE)
    example = _example(kind)
    return [
        f"`{kind.__name__}`" + ("" if kind.__base__ is CloudError else f", a kind of `{kind.__mro__[1].__name__}`"),
        what + (f" Carries {', '.join(f'`{name}`' for name in carried)}." if carried else ""),
        "that of what paused it" if kind is FlowParked else hint_of(None, example, flow="ID"),
        ", ".join(word for word, wanted in (("login", kind.requires_login), ("setup", kind.requires_setup)) if wanted),
        "by its status" if kind is errors.ApiError else "yes" if example.retryable else "",
        "its `code`" if kind is FlowParked else f"`{kind.exit_code}`",
    ]


def _example(kind: type[CloudError]) -> CloudError:
    """An error of this kind that names everything by its own name in capitals."""
    parameters = inspect.signature(kind).parameters.values()
    values: dict[str, Any] = {each.name: each.name.upper() for each in parameters if each.default is each.empty}
    return kind(**values)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def openapi_page() -> str:
    """The description the local cloud serves, recorded so that a change of it can be seen."""
    return msgspec.json.format(msgspec.json.encode(description()), indent=2).decode() + "\n"


def pages() -> dict[str, str]:
    """Every page made here: its name, and its text."""
    return {"cli.md": cli_page(), "errors.md": errors_page(), "openapi.json": openapi_page()}


if __name__ == "__main__":
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8", newline="\n")
        sys.stderr.write(f"wrote {REFERENCE / name}\n")
