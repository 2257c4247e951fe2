"""The root of the error tree, the exit codes, and the errors of files, which every part of the package may raise.

An error carries `user_message` (what happened, to which file or URL), `recovery_hint` (what fixes it, for programs),
`remedy` (the same as a step, for front ends that phrase it themselves), `requires_login`, `requires_setup`, and the
exit code the command line ends with. The engine's kinds are in `engine/errors.py`, the cloud's in `errors.py`.
"""

from __future__ import annotations

from typing import ClassVar, Final

from .remedies import Remedy

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_LOGIN_NEEDED: Final = 4
EXIT_REFUSED: Final = 5
EXIT_PENDING: Final = 8
EXIT_INTERRUPTED: Final = 130


class CloudError(Exception):
    """The root of every error this package raises on purpose.

    Args:
        message: What happened, naming the file, URL, flow or option it happened to. Never holds a secret.
        hint: What fixes it, in a sentence without commands; each kind has a default.
        remedy: The same as a step; each kind has a default, which a hint of its own replaces.
        request_id: The id under which the API's operators find the failed request in their log; it is appended to the
            message.
        about: What the message is about, where it begins with that: `GET https://api.example/x:`.

    Attributes:
        user_message: What happened, whole: what it is about, the message, and the request's id.
        message: The same without the request's id: two failures of the same call have the same.
        about: As given.
        brief: The message alone, for whoever shows elsewhere what it is about.
    """

    exit_code: ClassVar[int] = 1
    requires_login: ClassVar[bool] = False
    requires_setup: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""
    default_remedy: ClassVar[Remedy | None] = None
    _kind: str = ""
    retryable: bool = False
    """True when the same call may succeed if it is simply repeated later."""

    def __init_subclass__(
        cls,
        *,
        code: int | None = None,
        login: bool = False,
        setup: bool = False,
        retryable: bool = False,
        hint: str | None = None,
        remedy: str | None = None,
    ) -> None:
        """Set a kind's class attributes from the keywords of its class statement; those left out are inherited.

        A hint without a remedy clears the inherited remedy, which would no longer fit.
        """
        super().__init_subclass__()
        cls.exit_code = cls.exit_code if code is None else code
        cls.requires_login = cls.requires_login or login
        cls.requires_setup = cls.requires_setup or setup
        cls.retryable = cls.retryable or retryable
        cls.default_hint = cls.default_hint if hint is None else hint
        if hint is not None or remedy is not None:
            cls.default_remedy = None if remedy is None else Remedy(remedy)

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        remedy: Remedy | None = None,
        request_id: str | None = None,
        about: str = "",
    ) -> None:
        self.brief, self.about = message, about
        self.message = f"{about} {message}" if about else message
        self.user_message = self.message if request_id is None else f"{self.message} (request {request_id})"
        super().__init__(self.user_message)
        self.recovery_hint = self.default_hint if hint is None else hint
        self.remedy = self.default_remedy if hint is None and remedy is None else remedy
        self.request_id = request_id

    @property
    def kind(self) -> str:
        """The stable name of this kind of error, used in `--json` and in the journal."""
        return self._kind or type(self).__name__


# --- files ---------------------------------------------------------------------------------------------


class Io(CloudError, hint="Check the path, its owner and the free space, then run the same command again."):
    """A file or directory could not be read or written."""


class UnsafeFile(Io, hint="Remove it, or use a directory of your own.", remedy="own_directory"):
    """A private file is a symbolic link, or belongs to another user; it is neither read nor written."""


class DirectoryInUse(UnsafeFile, code=EXIT_USAGE, hint="Use a directory of its own.", remedy="new_directory"):
    """The directory that was named holds other things and nothing of ours; it is left as it is."""


class DirectoryUnusable(Io, hint="Fix that, or use another directory, on a local disk.", remedy="local_directory"):
    """A directory cannot be written, keeps no file private, or has no locks; found out before it is relied on."""
