"""The loggers of this package: nothing unasked, and no handler of any program gets a secret."""

from __future__ import annotations

import ast
import logging
import logging.handlers
import queue
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from systemprompt_cloud.base.log import PACKAGE, get_logger

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1XzEifQ.c2lnbmF0dXJl"
NONCE = "Zk3vQ9_nonce-T1x"
ROOT = Path(__file__).parents[2]

logger = get_logger(f"{PACKAGE}.tests.log")


class _Everything(logging.Handler):
    """Keeps the records themselves, and what a formatter makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [self.format(record) for record in self.records]


@pytest.fixture(params=["root", PACKAGE, logger.name])
def handler(request: pytest.FixtureRequest) -> Generator[_Everything]:
    """A handler of the embedding program, wherever it puts it."""
    ours, where, added = logging.getLogger(PACKAGE), logging.getLogger(request.param), _Everything()
    if request.param == "root":
        where = logging.getLogger()
    level = ours.level
    ours.setLevel(logging.DEBUG)
    where.addHandler(added)
    yield added
    where.removeHandler(added)
    ours.setLevel(level)


def _fail(token: str) -> None:
    raise OSError(f"sent Bearer {token}")


def test_no_handler_gets_a_secret(handler: _Everything) -> None:
    """Message, arguments, extra values, the exception with its causes and notes: nothing in the record holds it."""
    token = JWT
    try:
        try:
            _fail(token)
        except OSError as exc:
            exc.add_note(f"state={NONCE}")
            raise RuntimeError(f"GET /callback?state={NONCE}") from exc
    except RuntimeError:
        logger.exception("with %s", token, extra={"token": token, "tries": 3}, stack_info=True)
    (record,) = handler.records
    assert JWT not in str(vars(record))
    assert NONCE not in str(vars(record))
    assert (record.getMessage(), record.args, record.exc_info) == ("with ***", (), None)
    assert (vars(record)["token"], vars(record)["tries"]) == ("***", 3)
    (text,) = handler.texts
    assert text.startswith("with ***\nTraceback (most recent call last):\n")
    assert "OSError: sent Bearer ***" in text
    assert "RuntimeError: GET /callback?state=***" in text
    assert "Stack (most recent call last):" in text
    assert (record.funcName, record.filename) == ("test_no_handler_gets_a_secret", "test_log.py")


def test_a_record_goes_through_a_queue_as_it_is(handler: _Everything) -> None:
    """What a program hands to another thread or process is redacted, and keeps its traceback."""
    sent: queue.Queue[logging.LogRecord] = queue.Queue()
    beside = logging.handlers.QueueHandler(sent)
    logger.addHandler(beside)
    try:
        _fail(JWT)
    except OSError:
        logger.exception("100%% of %s", JWT)
    finally:
        logger.removeHandler(beside)
    message = sent.get_nowait().getMessage()
    assert message.startswith("100% of ***\nTraceback")
    assert message.endswith("OSError: sent Bearer ***")


def test_a_filter_that_was_there_before_sees_no_secret() -> None:
    """The redactor comes first, whoever got hold of the logger before this package did."""
    seen: list[str] = []

    def spy(record: logging.LogRecord) -> bool:
        seen.append(record.getMessage())
        return True

    early = logging.getLogger(f"{PACKAGE}.tests.early")
    early.addFilter(spy)
    get_logger(early.name).warning("token=%s", "abc")
    get_logger(early.name).warning("twice")
    assert seen == ["token=***", "twice"]
    assert len(early.filters) == 2


class _Unshowable:
    def __str__(self) -> str:
        raise ValueError(JWT)


def test_arguments_that_cannot_be_shown_fail_nobody(handler: _Everything) -> None:
    """A mistake in a log line is told in the log, and does not park a flow."""
    logger.warning("it is %s", _Unshowable())
    given = [JWT]
    logger.warning("one is missing: %s %s", *given)
    logger.error("nothing is handled", exc_info=True)
    assert handler.texts == [
        "it is %s (not formatted: ValueError)",
        "one is missing: %s %s (not formatted: TypeError)",
        "nothing is handled",
    ]


def test_what_nobody_listens_to_costs_nothing(handler: _Everything) -> None:
    """Below the level arguments are not even looked at."""
    logging.getLogger(PACKAGE).setLevel(logging.INFO)
    logger.debug("it is %s", _Unshowable())
    assert handler.records == []


def test_pytest_sees_redacted_records(caplog: pytest.LogCaptureFixture) -> None:
    """As does every program's own test of what is logged."""
    with caplog.at_level(logging.DEBUG):
        logger.debug("token=%s", "abc")
    assert caplog.messages == ["token=***"]


EMBEDDED = """
import logging, sys, trio
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.base.errors import CloudError

async def main():
    async with CloudApiClient("http://127.0.0.1:9", "a-bearer-token", attempts=2) as api:
        for _ in range(2):
            try:
                await api.tenant_status("a-bearer-token")
            except CloudError:
                logging.getLogger("systemprompt_cloud.base.files").warning("a warning")
            logging.basicConfig(level=logging.DEBUG, format="%(levelname)s:%(name)s:%(message)s", stream=sys.stdout)

trio.run(main)
"""


def test_a_library_says_nothing_unasked() -> None:
    """A program that embeds the package sees nothing until it configures its log, and then no secret."""
    ended = subprocess.run([sys.executable, "-c", EMBEDDED], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    ours = [line for line in ended.stdout.splitlines() if f":{PACKAGE}." in line]
    assert len(ours) == 2
    assert ours[0].startswith(f"INFO:{PACKAGE}.io.http.retries:GET http://127.0.0.1:9/api/v1/tenants/***/status")
    assert "trying again in" in ours[0]
    assert ours[1] == f"WARNING:{PACKAGE}.base.files:a warning"
    assert "bearer-token" not in "".join(ours)


def test_every_logger_of_the_package_redacts() -> None:
    """A logger that is not made by `get_logger` would pass on whatever it is given. Loggers of others have a name."""
    allowed = {"base/log.py", "cli/shared/log.py"}
    rooms = ("base", "cli", "diagrams", "engine", "flows", "io", "machines", "sandbox", "testing")
    for path in (path for room in rooms for path in (ROOT / room).rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        made = [
            ast.unparse(call)
            for call in ast.walk(ast.parse(path.read_text()))
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith((".getLogger", ".getChild"))
        ]
        assert set(made) <= {"logging.getLogger('stamina')"} or place in allowed, place
