"""How many files and connections a process may have open at once.

Every event stream is an open file. Systems commonly allow a process 1,024 of them by default (the soft limit) and many
more on request (the hard limit); a thousand flows need the request. It is a setting of the whole process, so nothing
does this behind a caller's back: programs that mean to hold many streams ask for it once, when they begin.
"""

from __future__ import annotations

from ...base.errors import Io


def allow_open_files(count: int) -> None:
    """Make sure that this process may have so many files open, raising its soft limit if it has to.

    Args:
        count: Two for each flow (its stream, and a call beside it) and some hundred for everything else.

    Raises:
        Io: The hard limit is lower; have it raised, or run fewer flows in this process.
    """
    try:
        import resource
    except ImportError:  # Windows: sockets are not files there, and have no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise Io(
            f"{count} files are needed open at once, and this system allows {hard}",
            hint=f"Raise the limit (ulimit -Hn {count}, as root), or run fewer flows at once.",
        )
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    except (OSError, ValueError) as exc:
        raise Io(f"{count} files are needed open at once, and the limit of {soft} cannot be raised: {exc}") from exc
