"""What a command costs beside the start of Python: `python -m benchmarks.command_line`.

Processor time of whole processes, a command and `python -c pass` in turns. Both run in an empty environment, with the
package on its path as a wheel would be: an editable installation makes every start of Python slower, and so the ratios
smaller. The person has a login, a tenant and flows.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from .measure import ROOT, Contestant, Settings, compared, median, run_tables, section, spread, take_turns, workers
from .results import Filled

FLOWS: Final = 1_000
QUICK_FLOWS: Final = 50
PYTHON: Final = Contestant("python -c pass", "", "", note="in the same environment.")
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "`whoami`": ("whoami",),
    "`flows list`": ("flows", "list"),
    "`tenants list`": ("tenants", "list"),
    "a word that is no command": ("nonsense",),
    "`--help`": ("--help",),
    "`--version`": ("--version",),
}
TABS: Final[Mapping[str, str]] = {
    "Tab after `flows show`": "systemprompt-cloud flows show ",
    "Tab after `tenants show`": "systemprompt-cloud tenants show ",
    "Tab after `flo`": "systemprompt-cloud flo",
}
TENANT: Final = {"id": "tenant_4f2a", "name": "shop", "tenant_type": "cloud", "internal_database_url": "postgres://a/b"}


def table(settings: Settings) -> str:
    """Processor time of commands as a multiple of the start of Python."""
    home = settings.directory / "command-line"
    state = home / "state" / "systemprompt-cloud"
    state.mkdir(parents=True)
    with workers(settings) as asked:
        filler = Contestant("filling", "benchmarks.ours", "fill")
        flows = QUICK_FLOWS if settings.quick else FLOWS
        asked.ask_once(filler, Filled, home=str(state), flows=flows)
    environ = _environment(home)
    python = str(home / "python" / "bin" / "python")
    argv = {PYTHON.label: [python, "-c", "pass"]}
    environs = {PYTHON.label: environ}
    for label, words in COMMANDS.items():
        argv[label], environs[label] = [python, "-m", "systemprompt_cloud", *words], environ
    for label, line in TABS.items():
        asking = {
            "_SYSTEMPROMPT_CLOUD_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(line.count(" ")),
        }
        argv[label], environs[label] = [python, "-m", "systemprompt_cloud"], environ | asking
    everybody = [PYTHON, *(Contestant(label, "", "") for label in argv if label != PYTHON.label)]

    def ask(contestant: Contestant) -> float:
        return _milliseconds(argv[contestant.label], environs[contestant.label], home)

    taken = take_turns(everybody, settings.rounds * 3, ask, warm=True)
    rows = [
        [each.label, *compared(median(taken[each.label]), taken[PYTHON.label], ",.1f")[:3], spread(taken[each.label])]
        for each in everybody[1:]
    ]
    title = (
        f"Starting the command line, ms of processor time (medians of {settings.rounds * 3} rounds; lower is better)"
    )
    head = ["command", "ours", "`python -c pass`", "ours ÷ python", "our min to max round"]
    return section(title, head, rows, [PYTHON])


def _environment(home: Path) -> dict[str, str]:
    """Where the package is imported from, and whose login, tenant and flows are looked at."""
    venv.create(home / "python", symlinks=True)
    (home / "packages").mkdir()
    (home / "packages" / "systemprompt_cloud").symlink_to(ROOT)
    data = home / "data" / "systemprompt-cloud"
    data.mkdir(parents=True, mode=0o700)
    claims = base64.urlsafe_b64encode(b'{"exp":4102444800}').rstrip(b"=").decode()
    login = {
        "api_token": f"e30.{claims}.",
        "api_url": "https://api.example",
        "authenticated_at": "2026-01-01T00:00:00Z",
        "user_email": "ada@example.com",
    }
    tenants = {"tenants": [TENANT], "synced_at": "2026-01-01T00:00:00Z"}
    for name, record in (("credentials.json", login), ("tenants.json", tenants)):
        (data / name).write_bytes(msgspec.json.encode(record))
        (data / name).chmod(0o600)
    kept = ("PYTHON", "SYSTEMPROMPT", "XDG")  # what would lead elsewhere
    return {name: value for name, value in os.environ.items() if not name.startswith(kept)} | {
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_STATE_HOME": str(home / "state"),
        "PYTHONPATH": os.pathsep.join([str(home / "packages"), sysconfig.get_path("purelib")]),
    }


def _milliseconds(argv: list[str], environ: Mapping[str, str], directory: Path) -> float:
    """The processor time of a process, from its start to its end."""
    with subprocess.Popen(  # noqa: S603 our own command
        argv, env=environ, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in {0, 2}, f"{argv} ended with {process.returncode}"
    return (used.ru_utime + used.ru_stime) * 1e3


if __name__ == "__main__":
    run_tables([table])
