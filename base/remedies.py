"""What fixes an error, as a step with its facts: each face says it in its own words.

The command line shows a command to paste, a program that embeds us gets the error's `recovery_hint`, a page may show a
button. So nothing below the command line writes a command, and nothing above reads a sentence to find out what to do.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Remedy(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that fixes an error.

    Attributes:
        step: What to do, in lower_snake_case: `log_in`, `resume`, `choose_port` …
        facts: What it is about: the flow, the machine, the URL. Holds no secret.
    """

    step: str
    facts: Mapping[str, str] = {}
