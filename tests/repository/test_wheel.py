"""The wheel, in an environment of its own: what people install is what was tested."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".venv" / "wheels"


def run(*command: str | Path, cwd: Path) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environ, "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an empty environment in which the wheel, built from the tracked files, was installed."""
    base = tmp_path_factory.mktemp("wheel")
    source = base / "source"
    source.mkdir()
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    run(*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", base, source, cwd=base)
    (wheel,) = base.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", base / "venv", cwd=base)
    python = base / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-index", "--find-links", WHEELS, wheel, cwd=base)
    return python


def test_the_installed_command_says_its_version(installed: Path, tmp_path: Path) -> None:
    """`systemprompt-cloud --version` and `spc --version` answer, run from another directory."""
    version = run(installed, "-c", "import systemprompt_cloud as s; print(s.__version__)", cwd=tmp_path).strip()
    for name in ("systemprompt-cloud", "spc"):
        assert run(installed.parent / name, "--version", cwd=tmp_path).split()[-1] == version


def test_the_installed_command_has_its_man_pages(installed: Path) -> None:
    """They are where `man` looks beside the command."""
    pages = installed.parents[1] / "share" / "man" / "man1"
    assert sorted(page.name for page in pages.iterdir()) == sorted(page.name for page in (ROOT / "docs/man").iterdir())


def test_every_public_name_can_be_imported_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Every name of `__all__` loads from the installed wheel, and it lies in that environment."""
    script = (
        "import systemprompt_cloud as s\n"
        "for name in s.__all__: getattr(s, name)\n"
        "from systemprompt_cloud import testing\n"
        "print(len(s.__all__), s.__file__)"
    )
    count, where = run(installed, "-c", script, cwd=tmp_path).split()
    assert int(count) > 90
    assert Path(where).is_relative_to(installed.parents[1])


def test_the_wheel_says_that_it_is_typed(installed: Path, tmp_path: Path) -> None:
    """PEP 561: the marker and the stub of the lazy face are in the wheel."""
    where = run(installed, "-c", "import systemprompt_cloud as s; print(s.__file__)", cwd=tmp_path).strip()
    assert Path(where).with_name("py.typed").exists()
    assert Path(where).with_name("__init__.pyi").exists()
