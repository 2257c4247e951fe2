"""What every kind of error has in common; the kinds stand in `errors.py`, where all of it is imported from.

An error carries `user_message` (what happened, to which file or URL), `recovery_hint` (the command that mends it),
`requires_login`, `requires_setup`, and the exit code the command line ends with.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

CLI: Final = "systemprompt-cloud"

REFUSED: Final = "The API itself refused this: what it says has to change before it is asked again."
HINT_OF_CODE: Final = {
    "not_found": "Check --api-url: there is no such call at that address.",
    "tenant_not_found": f"See what is stored here: {CLI} tenants list. Read it from the API again: {CLI} tenants sync",
    "domain_not_found": f"There is nothing to take away; give the tenant one: {CLI} domain set DOMAIN",
    "secret_not_found": f"See what there is: {CLI} secrets list",
}
"""What mends the API's refusals that name what is missing, by the API's own code; any other is `REFUSED`."""

_REFUSAL = re.compile(r"[A-Z]+ \S+: (\S+): ")


def refusal_in_words(where: str, code: str, said: str) -> str:
    """A refusal of the API in a sentence, which is what the history of a flow keeps of it.

    Args:
        where: The call: its method and URL.
        code: The API's own code.
        said: What the API says for people.
    """
    return f"{where}: {code}: {said}"


def code_of_refusal(problem: str) -> str:
    """The code `refusal_in_words` put into a sentence; empty when the sentence is about anything else."""
    found = _REFUSAL.match(problem)
    return found[1] if found else ""


class CloudError(Exception):
    """The root of every error this package raises on purpose.

    Args:
        message: What happened, naming the file, URL, flow or option it happened to. Never holds a secret.
        hint: The command or step that mends it; each kind has a default.
        request_id: Under which name the API's operators find the request in their log, when it was one that failed.
            It ends the message.
    """

    exit_code: ClassVar[int] = 1
    requires_login: ClassVar[bool] = False
    requires_setup: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""
    _kind: str = ""
    retryable: bool = False
    """True when the same call may succeed a moment later without anybody doing anything."""

    def __init_subclass__(
        cls,
        *,
        code: int | None = None,
        login: bool = False,
        setup: bool = False,
        retryable: bool = False,
        hint: str | None = None,
    ) -> None:
        """Take what the head of a kind says: exit code, what it requires, whether a retry may mend it, default hint.

        What it leaves out is as with the kind it is one of.
        """
        super().__init_subclass__()
        cls.exit_code = cls.exit_code if code is None else code
        cls.requires_login = cls.requires_login or login
        cls.requires_setup = cls.requires_setup or setup
        cls.retryable = cls.retryable or retryable
        cls.default_hint = cls.default_hint if hint is None else hint

    def __init__(self, message: str, *, hint: str | None = None, request_id: str | None = None) -> None:
        shown = message if request_id is None else f"{message} (request {request_id})"
        super().__init__(shown)
        self.user_message = shown
        self.recovery_hint = self.default_hint if hint is None else hint
        self.request_id = request_id

    @property
    def kind(self) -> str:
        """The stable name of this kind of error, used in `--json` and in the journal."""
        return self._kind or type(self).__name__
