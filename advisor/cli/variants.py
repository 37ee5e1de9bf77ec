"""`--precision fp32,bf16` and `--compile off,on`: one or several ways to run the same training.

`--compile` alone still means on, as before it could list anything, so the command puts the word in
before the arguments are parsed: neither typer nor its parser knows an option whose value may be
left out.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import typer
from typer.core import TyperCommand

from advisor.cli.options import PrecisionName

if TYPE_CHECKING:
    from advisor.training.data import Variant

_STATES = {"off": False, "false": False, "0": False, "no": False}
_STATES |= {"on": True, "true": True, "1": True, "yes": True}

T = TypeVar("T")


class CommandWithVariants(TyperCommand):
    """A command whose `--compile` may stand without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return what is left of the arguments once they are parsed."""
        return super().parse_args(ctx, spell_out_compile(args))


def spell_out_compile(arguments: list[str]) -> list[str]:
    """Return the arguments with a value for each `--compile` that has none, and `--no-compile`."""
    spelled: list[str] = []
    for index, argument in enumerate(arguments):
        if argument == "--":
            return [*spelled, *arguments[index:]]
        if argument == "--no-compile":
            spelled.append("--compile=off")
        elif argument == "--compile" and not _is_list_of_states(arguments[index + 1 : index + 2]):
            spelled.append("--compile=on")
        else:
            spelled.append(argument)
    return spelled


def parse_precisions(text: str) -> tuple[PrecisionName, ...]:
    """Return the precisions of a list such as `fp32,bf16`, in its order.

    Raises:
        typer.BadParameter: One is unknown or stands there twice.
    """
    known: dict[str, PrecisionName] = {name: name for name in get_args(PrecisionName)}
    return _parse(text, known, "--precision", f"is not one of {', '.join(known)}")


def parse_precision(text: str) -> PrecisionName:
    """Return the one precision that `text` names.

    Raises:
        typer.BadParameter: It is unknown, or there are several.
    """
    return _take_one(parse_precisions(text), text, "--precision")


def parse_compile(text: str) -> tuple[bool, ...]:
    """Return whether to compile, for each entry of a list such as `off,on`, in its order.

    Raises:
        typer.BadParameter: An entry is neither on nor off, or stands there twice.
    """
    wrong = "is neither on nor off; write --compile, --compile off,on or --no-compile"
    return _parse(text, _STATES, "--compile", wrong)


def parse_one_compile(text: str) -> bool:
    """Return whether to compile, by the one entry of `text`.

    Raises:
        typer.BadParameter: It is neither on nor off, or there are several.
    """
    return _take_one(parse_compile(text), text, "--compile")


def combine(precisions: tuple[PrecisionName, ...], compiled: tuple[bool, ...]) -> "list[Variant]":
    """Return every combination, the one that the recommendation is for first."""
    from advisor.training.data import Variant

    return [
        Variant(precision=precision, compile=compile_model)
        for precision in precisions
        for compile_model in compiled
    ]


def _is_list_of_states(following: list[str]) -> bool:
    return bool(following) and all(name in _STATES for name in _split(following[0]))


def _split(text: str) -> list[str]:
    return [part.strip().lower() for part in text.split(",")]


def _parse(text: str, known: Mapping[str, T], option: str, wrong: str) -> tuple[T, ...]:
    values: list[T] = []
    for name in _split(text):
        if name not in known:
            raise typer.BadParameter(f"{name!r} {wrong}", param_hint=option)
        if known[name] in values:
            raise typer.BadParameter(f"{name} stands there twice", param_hint=option)
        values.append(known[name])
    return tuple(values)


def _take_one(values: tuple[T, ...], text: str, option: str) -> T:
    if len(values) > 1:
        message = f"{text!r} names several; this command takes one"
        raise typer.BadParameter(message, param_hint=option)
    return values[0]
