"""A contestant's process: `python -m benchmarks.worker benchmarks.ours`, then one question and one answer per line.

A question names a function of the module and its arguments; the answer is its return value as JSON, or a traceback. A
function that takes `directory` gets an empty one, which is removed afterwards. The process lives as long as its table,
so that imports and warm-up happen once and are in no figure.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import msgspec


class Question(msgspec.Struct):
    """What to measure.

    Attributes:
        function: The name of a function of the module.
        arguments: Its keyword arguments.
        base: Where its empty directory is made.
    """

    function: str
    arguments: dict[str, Any]
    base: str


class Answer(msgspec.Struct):
    """The result: one of the two fields is set."""

    value: Any = None
    error: str = ""


def answer(module: str, question: Question) -> Answer:
    """Measure once."""
    try:
        function = getattr(importlib.import_module(module), question.function)
        with tempfile.TemporaryDirectory(dir=question.base, ignore_cleanup_errors=True) as name:
            arguments = dict(question.arguments)
            if "directory" in inspect.signature(function).parameters:
                arguments["directory"] = Path(name)
            gc.collect()
            return Answer(function(**arguments))
    except Exception:  # noqa: BLE001 whatever a peer raises is shown in its row
        return Answer(error=traceback.format_exc())


def main(module: str) -> None:
    """Answer questions until there are no more."""
    # What a peer prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        answers.write(msgspec.json.encode(answer(module, msgspec.json.decode(line, type=Question))) + b"\n")
    # A peer's threads must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
