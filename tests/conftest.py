"""What several rooms' tests share: the log, a headless Chromium, directories, and time that can be skipped."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.base.redaction import forget_secrets
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from systemprompt_cloud.testing.scripted import ScriptedServer, serve_scripted

from tests.faults.storage import small_disk
from tests.support.length import VARIABLE
from tests.support.listening import listening
from tests.support.missing import missing
from tests.support.secret_service import SecretService, missing_programs, open_secret_service

# Selenium ships no complete types; `Any` keeps its gaps in one place.
Browser = Any

# Quiet and alone: no sandbox (containers), no proxy (everything is on loopback), nothing fetched in the background.
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-sync",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option `--long`, which `make test-long` gives."""
    parser.addoption("--long", action="store_true", help="run the long tests, too, and every search at full length")


def pytest_configure(config: pytest.Config) -> None:
    """Let the modules of the tests know of `--long` before they are imported."""
    if config.getoption("--long"):
        os.environ[VARIABLE] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `long`."""
    if config.getoption("--long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if item not in set(left_out)]
    config.hook.pytest_deselected(items=left_out)


# No example has a deadline: how long one takes is a matter of the machine. And whoever submits a change is told of what
# it broke, and not of what chance has just found elsewhere.
hypothesis.settings.register_profile("ours", deadline=None, derandomize=os.environ.get("CI") == "true")
hypothesis.settings.load_profile("ours")

# A test run started in the background of a script inherits an ignored SIGINT, and so would every command under test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def characters() -> None:
    """In a fresh copy hypothesis takes seconds for its first text; no test's bounds are meant for that."""
    hypothesis.find(strategies.text(), lambda _: True, settings=hypothesis.settings(database=None))


@pytest.fixture(autouse=True)
def no_secrets_known() -> None:
    """A value that was a secret in one test is a word like any other in the next one."""
    forget_secrets()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Generator[Browser, None, None]:
    """One headless Chromium with a fresh profile for the whole run.

    A machine without it skips these tests and says so; in CI its absence is a failure, or nobody would ever notice.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        missing("chromium and chromedriver are not installed (apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    profile: Path = tmp_path_factory.mktemp("chromium")
    options = Options()
    options.binary_location = program
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started: Browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        started.set_page_load_timeout(15)
        yield started
    finally:
        started.quit()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """The Chromium, on an empty page, without cookies and with nothing on its console."""
    chromium.get("about:blank")
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    chromium.get_log("browser")
    return chromium


@pytest.fixture
def mounted(tmp_path: Path) -> Generator[Callable[[str], Path]]:
    """Mounts a real file system of the size asked for, `64k` say; where that is not possible CI fails, others skip."""
    with contextlib.ExitStack() as mounts:

        def mount(size: str) -> Path:
            try:
                return mounts.enter_context(small_disk(tmp_path / "disk", size)).place
            except Io as exc:
                missing(str(exc))

        yield mount


@pytest.fixture(scope="session")
def dbus() -> None:
    """A computer that can run a D-Bus and a keyring of its own for a test."""
    if programs := missing_programs():
        missing(f"{' and '.join(programs)} not installed (apt-get install dbus gnome-keyring)")


@pytest.fixture
def keyring(dbus: None, monkeypatch: pytest.MonkeyPatch) -> Generator[SecretService]:
    """An empty, unlocked keyring, which this process and the ones it starts find instead of yours."""
    with open_secret_service() as service:
        for name, value in service.environ.items():
            monkeypatch.setenv(name, value)
        yield service


# --- directories, time, the log, a journal ----------------------------------------------------------------------------


@pytest.fixture
def paths(tmp_path: Path) -> CloudPaths:
    """Directories nobody else uses."""
    directory = tmp_path / ".systemprompt"
    return CloudPaths(directory=directory, state_directory=directory, origin="explicit")


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that follows trio's, on New Year 2026."""
    return VirtualClock()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Every line of the log, tracebacks too."""
    with listening(logging.DEBUG, "%(message)s") as lines:
        yield lines


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """Every warning logged during the test."""
    with listening(logging.WARNING, "%(message)s") as lines:
        yield lines


@pytest.fixture
def journal_path(tmp_path: Path) -> Path:
    """Where a journal is to be."""
    return tmp_path / "state" / "journal.sqlite3"


@pytest.fixture
def journal(journal_path: Path) -> Iterator[Journal]:
    """A new journal, open."""
    with Journal(journal_path) as journal:
        yield journal


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """A real server on loopback that gives the planned answers."""
    async with serve_scripted() as scripted:
        yield scripted
