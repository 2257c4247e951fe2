"""What fixes an error, as a step with its facts, which each front end phrases for its users.

The command line shows a command to paste, a program that embeds us gets the error's `recovery_hint`, a page may show a
button. So nothing below the command line contains commands, and nothing above has to parse sentences.
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
