"""Commands and arguments as click has them, with help of their own, and checks of what was given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
from typing_extensions import override

from ..screen.columns import HELP_COLUMNS
from .names import CLI
from .settings import Invocation

T = TypeVar("T")


class Help(click.HelpFormatter):
    """Help that fits a narrow terminal too; a command in it is not broken."""

    @override
    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        if self.width >= HELP_COLUMNS:
            super().write_dl(rows, col_max, col_spacing)
            return
        for name, about in rows:
            self.write_text(name)
            with self.indentation(), self.indentation():
                self.write_text(about)

    @override
    def write_text(self, text: str) -> None:
        *before, last = text.split("\n\n")
        if CLI not in last:
            super().write_text(text)
            return
        from ..screen.layout import laid_out

        if before:
            super().write_text("\n\n".join(before))
            self.write_paragraph()
        self.write(f"{laid_out(' ' * self.current_indent + ' '.join(last.split()), self.width)}\n")


class HelpContext(click.Context):
    """A context whose help is `Help`."""

    formatter_class = Help


class Argument(click.Argument):
    """An argument that the command's help explains.

    Args:
        declarations: Its name, as click takes it.
        about: What it is, for the help.
        attributes: Whatever else click takes.
    """

    def __init__(self, declarations: list[str], *, about: str, **attributes: Any) -> None:
        super().__init__(declarations, **attributes)
        self.about = about

    @override
    def make_metavar(self, ctx: click.Context) -> str:
        name = self.human_readable_name if self.required else f"[{self.human_readable_name}]"
        return name if self.nargs == 1 else f"{name}..."

    @override
    def get_error_hint(self, ctx: click.Context | None) -> str:
        return f"'{self.human_readable_name}'"

    @override
    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        return self.human_readable_name, f"{self.about}{'  [required]' if self.required else ''}"


class Command(click.Command):
    """A command whose help lists its arguments before its options. `--fields` is checked before it does anything."""

    context_class = HelpContext

    @override
    def invoke(self, ctx: click.Context) -> Any:
        projection = ctx.ensure_object(Invocation).projection
        if projection is not None:
            projection.check(ctx.command_path.partition(" ")[2])
        return super().invoke(ctx)

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, kind in (("Arguments", click.Argument), ("Options", click.Option)):
            found = [each for each in self.get_params(ctx) if isinstance(each, kind)]
            records = [record for each in found if (record := each.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def checking(check: Callable[[T], T]) -> Callable[[click.Context, click.Parameter, T | None], T | None]:
    """A callback of a parameter: what was given goes through the check, which raises `click.BadParameter`."""

    def callback(_context: click.Context, _parameter: click.Parameter, value: T | None) -> T | None:
        return None if value is None else check(value)

    return callback
