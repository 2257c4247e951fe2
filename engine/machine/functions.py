"""What a table asks of the functions it is given: called at once, with what it calls them with, and with a name.

A coroutine function as a guard would always hold, because a coroutine is true; one with another number of parameters,
or for another machine's context, would fail at the first event. So they are refused while the table is built.
Annotations are believed only where they are certain: `Any`, type variables, protocols and names that cannot be resolved
pass.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, SimpleNamespace, UnionType
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ..errors import MachineInvalid

_FUNCTIONS: Final = (FunctionType, MethodType, BuiltinFunctionType, type)
_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def name_of(function: Callable[..., object]) -> str:
    """A function as people read it, also one that has no `__name__`: `functools.partial`, an object with `__call__`."""
    name = getattr(function, "__name__", None)
    if name == "__call__":
        return type(getattr(function, "__self__", function)).__name__
    if isinstance(name, str) and name:
        return name
    if isinstance(function, functools.partial):
        bound = cast("functools.partial[object]", function)
        shown = [_shown(each) for each in bound.args]
        shown += [f"{key}={_shown(each)}" for key, each in bound.keywords.items()]
        return f"{name_of(bound.func)}({', '.join(shown)})"
    return type(function).__name__


def _shown(value: object) -> str:
    simple = value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and value.isidentifier())
    text = str(value) if simple else "..."
    return text if len(text) <= 20 else "..."


def is_async(function: Callable[..., object]) -> bool:
    """Whether calling it only makes something to be awaited or iterated: a coroutine, or a generator of either kind."""
    plain = plain_function(function)
    return inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain) or inspect.isgeneratorfunction(plain)


def takes(function: Callable[..., object], count: int) -> bool:
    """Whether it can be called with that many values; True where a built-in function does not tell."""
    if _is_simple(function, count):
        return True
    try:
        # Not what it wraps: a decorator may take other parameters than the function behind it.
        signature = inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError, NameError):
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def check_function(function: object, what: str, **parameters: type) -> None:
    """Check a function of a table.

    Args:
        function: What was given.
        what: What it is, for the message: `machine order: the guard`.
        parameters: What it is called with: for each value its role, and the class it is of.

    Raises:
        MachineInvalid: It is no function, is asynchronous, takes other parameters, or is annotated for other classes.
    """
    if not callable(function):
        raise MachineInvalid(f"{what} is no function: {type(function).__name__}")
    what = f"{what} {name_of(function)}"
    if is_async(function):
        raise MachineInvalid(
            f"{what} is a coroutine function or a generator; a table calls it and takes what it returns",
            hint="Make it a plain function; what has to be awaited belongs in an activity.",
        )
    roles = ", ".join(parameters)
    if not takes(function, len(parameters)):
        raise MachineInvalid(f"{what} cannot be called with ({roles})")
    for (role, given), annotation in zip(parameters.items(), _annotations(function, len(parameters)), strict=False):
        if not _may_be(given, annotation):
            wanted = getattr(annotation, "__name__", str(annotation))
            raise MachineInvalid(
                f"{what} takes {_article(wanted)} as its {role}, and is given {_article(given.__name__)}"
            )


def refuse_awaitable(value: object, where: str) -> None:
    """Refuse what a guard returned if it is something to be awaited: it is true whatever would come of it."""
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()  # nobody will await it
        raise MachineInvalid(f"the guard of {where} returned {_article(type(value).__name__)}, which has to be awaited")


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"


def plain_function(function: Callable[..., object]) -> Callable[..., object]:
    """The function that runs: behind what `functools.partial` binds, or an object's `__call__`."""
    while isinstance(function, functools.partial):
        function = cast("functools.partial[object]", function).func
    if isinstance(function, (staticmethod, classmethod)):
        return cast("Callable[..., object]", function.__func__)
    return function if isinstance(function, _FUNCTIONS) else type(function).__call__


def _annotations(function: Callable[..., object], count: int) -> Sequence[Any]:
    """What the first parameters are annotated with; `Any` where that is not known."""
    plain = plain_function(function)
    if hasattr(plain, "__wrapped__"):  # its annotations are those of another function
        return ()
    if _is_simple(function, count):
        return [_resolved(annotation, plain) for annotation in _written(cast("FunctionType", function), count)]
    try:
        listed = list(inspect.signature(function, follow_wrapped=False).parameters.values())
    except (ValueError, TypeError, NameError):
        return ()
    first = [each for each in listed if each.kind in _POSITIONAL][:count]
    rest = [each for each in listed if each.kind is inspect.Parameter.VAR_POSITIONAL]
    first += rest * (count - len(first))
    return [_resolved(each.annotation, plain) for each in first]


def _is_simple(function: Callable[..., object], count: int) -> bool:
    """Whether it is a function of exactly so many parameters, as most are: their signatures need not be made."""
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    return code.co_argcount == count and not code.co_kwonlyargcount


def _written(function: FunctionType, count: int) -> list[Any]:
    try:
        annotations = function.__annotations__
    except Exception:  # noqa: BLE001 from Python 3.14 on they are evaluated here, and may raise whatever they like
        return []
    return [annotations.get(name, inspect.Parameter.empty) for name in function.__code__.co_varnames[:count]]


def _resolved(annotation: Any, function: Callable[..., object]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    known = getattr(function, "__globals__", {})
    if isinstance(annotation, str) and isinstance(known.get(annotation), type):
        return known[annotation]  # as nearly all are; compiling the others is the most of what a table costs
    holder = SimpleNamespace(__annotations__={"it": annotation})
    try:
        # One by one: another annotation of the same function that cannot be resolved makes this one no less certain.
        return get_type_hints(holder, globalns=known)["it"]
    except Exception:  # noqa: BLE001 an annotation is an expression, and may raise whatever it likes
        return Any


def _may_be(given: type, annotation: Any) -> bool:
    """Whether a value of exactly the class `given` may be what the annotation asks for."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return any(_may_be(given, each) for each in get_args(annotation))
    if annotation is Any or isinstance(annotation, TypeVar):  # `Any` is a class from Python 3.11 on
        return True
    wanted = annotation if origin is None else origin
    if not isinstance(wanted, type) or getattr(wanted, "_is_protocol", False):
        return True
    try:
        return issubclass(given, wanted)
    except TypeError:
        return True
