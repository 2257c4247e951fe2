"""The real command as a process of its own, in an empty home, against a local cloud that is one too."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from systemprompt_cloud.testing.command import COMMAND, SECONDS, CommandLine, clean_environ

Clouds = Callable[..., str]


@pytest.fixture(scope="session")
def clouds() -> Generator[Clouds, None, None]:
    """Starts a local cloud with the options given, and gives its address."""
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str) -> str:
        process = subprocess.Popen(
            [*COMMAND, "sandbox", "--step", "0.02", *options], stdout=subprocess.PIPE, text=True, env=clean_environ()
        )
        processes.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    yield start
    for process in processes:
        process.terminate()
    for process in processes:
        assert process.wait(SECONDS) == 0
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="session")
def cloud(clouds: Clouds) -> str:
    """The address of a local cloud where nothing goes wrong."""
    return clouds()


@pytest.fixture
def cli(tmp_path: Path, cloud: str) -> Generator[CommandLine, None, None]:
    """The command line in an empty home, speaking to the local cloud."""
    home = tmp_path / "home"
    home.mkdir()
    made = CommandLine(home, clean_environ() | {"HOME": str(home), "SYSTEMPROMPT_API_URL": cloud})
    yield made
    made.close()
