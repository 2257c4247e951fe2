"""eventsource-parser, on node: `npm install --prefix .venv/node eventsource-parser` puts it where it is looked for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from ..decoders import make_body
from ..results import Seconds

PACKAGES: Final = Path(__file__).parents[2] / ".venv" / "node"

_SCRIPT: Final = """
import { createParser } from 'eventsource-parser'
import { readFileSync } from 'node:fs'
const [file, chunk, wanted] = process.argv.slice(-3)
const body = readFileSync(file)
const pieces = []
for (let at = 0; at < body.length; at += Number(chunk)) pieces.push(body.subarray(at, at + Number(chunk)))
const taken = []
for (let round = 0; round < 2; round++) {
  let count = 0
  const text = new TextDecoder()
  const parser = createParser({ onEvent: () => { count++ } })
  const started = process.hrtime.bigint()
  for (const piece of pieces) parser.feed(text.decode(piece, { stream: true }))
  taken.push(Number(process.hrtime.bigint() - started) / 1e9)
  if (count !== Number(wanted)) throw new Error(`${count} events were found, and there are ${wanted}`)
}
console.log(taken.at(-1))
"""


def present() -> bool:
    """Whether node and the package are here."""
    return shutil.which("node") is not None and (PACKAGES / "node_modules" / "eventsource-parser").is_dir()


def decode(directory: Path, size: int, chunk: int, line: bool) -> Seconds:
    """How long it takes for the body the second time, when node has compiled it."""
    node = shutil.which("node")
    if node is None:
        raise FileNotFoundError("node is not installed")
    body = make_body(size, line)
    file = directory / "body"
    file.write_bytes(body.data)
    done = subprocess.run(  # noqa: S603 our own script
        [node, "--input-type=module", "--eval", _SCRIPT, "--", str(file), str(chunk), str(body.events)],
        cwd=PACKAGES,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Seconds(float(done.stdout))
