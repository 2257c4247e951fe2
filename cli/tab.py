"""Tab: how each shell asks what to offer, and how it takes the answer.

There are two generations of scripts in people's shells. Those written today are click's (`bash_complete`), those of
releases up to 0.1.0 were Typer's (`complete_bash`); the variable in the environment says which one asks. Nothing heavy
is imported here, so that the names of commands are offered at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SHELLS = ("bash", "zsh", "fish", "powershell")
WORDS = "COMP_WORDS"
NUMBER = "COMP_CWORD"
OLD_WORDS = "_TYPER_COMPLETE_ARGS"


def variable(name: str) -> str:
    """The environment variable by which a shell asks the program of this name."""
    return f"_{name}_COMPLETE".replace("-", "_").upper()


class Asked:
    """What a shell asks.

    Args:
        instruction: The variable's value.
        environ: Where the words typed so far are.

    Attributes:
        shell: Which shell asks; empty when it is none that is known.
        old: Whether by a script of Typer's.
        source: Whether it asks for the script itself.
        words: The whole words after the program's name.
        incomplete: The word the cursor is at the end of.
    """

    def __init__(self, instruction: str, environ: Mapping[str, str]) -> None:
        first, _, second = instruction.partition("_")
        self.old = first in {"complete", "source"}
        shell, what = (second, first) if self.old else (first, second)
        shell = "powershell" if shell == "pwsh" else shell
        self.shell = shell if shell in SHELLS and what in {"complete", "source"} else ""
        self.source = what == "source"
        self.words, self.incomplete = self._typed(environ)

    def _typed(self, environ: Mapping[str, str]) -> tuple[list[str], str]:
        if self.old and self.shell != "bash":
            line = environ.get(OLD_WORDS, "")
            words = _parted(line)[1:]
            if self.shell == "powershell":
                incomplete = environ.get("_TYPER_COMPLETE_WORD_TO_COMPLETE", "")
                return (words[:-1] if incomplete else words), incomplete
            return (words, "") if not words or line.endswith(" ") else (words[:-1], words[-1])
        words, number = _parted(environ.get(WORDS, "")), environ.get(NUMBER, "")
        if self.shell == "fish":
            incomplete = (_parted(number) or [""])[0]
            whole = words[1:]
            return (whole[:-1] if incomplete and whole[-1:] == [incomplete] else whole), incomplete
        at = int(number) if number.isdecimal() else len(words)
        return words[1:at], words[at] if at < len(words) else ""

    def answer(self, offered: Iterable[tuple[str, str, str]], environ: Mapping[str, str]) -> tuple[str, int]:
        """What to print, and the exit code.

        Args:
            offered: The kind (`plain`, `file` or `dir`), the value and a few words about it.
            environ: Where fish's old script says what it wants to know.
        """
        if not self.old:
            return _lines(self._line(*each) for each in offered), 0
        # Typer's scripts know values only, and let the shell offer files where there are none.
        lines = [self._old_line(value, about) for kind, value, about in offered if kind == "plain"]
        if self.shell == "fish" and environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
            return "", 0 if lines else 1
        if self.shell != "zsh":
            return _lines(lines), 0
        text = "\n".join(lines)
        return (f"_arguments '*: :(({text}))'\n" if text else "_files\n"), 0

    def _line(self, kind: str, value: str, about: str) -> str:
        about = " ".join(about.split())
        if self.shell == "bash":
            return f"{kind},{value}"
        if self.shell == "fish":
            return f"{kind},{value}\t{about}" if about else f"{kind},{value}"
        if self.shell == "zsh" and about:
            value = value.replace(":", r"\:")
        return f"{kind}\n{value}\n{about or '_'}"

    def _old_line(self, value: str, about: str) -> str:
        about = " ".join(about.split())
        if self.shell == "zsh":
            value, about = _zsh_quoted(value), _zsh_quoted(about)
            return f'"{value}":"{about}"' if about else f'"{value}"'
        if self.shell == "fish":
            return f"{value}\t{about}" if about else value
        return f"{value}:::{about or ' '}" if self.shell == "powershell" else value


def _parted(line: str) -> list[str]:
    """The words of a line that may end within quotes."""
    if not any(each in line for each in "'\"\\"):
        return line.split()
    import shlex

    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # the quotes are not closed yet
        words.append(lexer.token)
    return words


def _lines(texts: Iterable[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def _zsh_quoted(text: str) -> str:
    """For the inside of double quotes that zsh reads twice."""
    for character, instead in (('"', '""'), ("'", "''"), ("$", r"\$"), ("`", r"\`"), (":", r"\\:")):
        text = text.replace(character, instead)
    return text
