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
        following = _split("".join(arguments[index + 1 : index + 2]))
        if argument == "--":
            return [*spelled, *arguments[index:]]
        if argument == "--no-compile":
            spelled.append("--compile=off")
        elif argument == "--compile" and not _STATES.keys() >= {*following}:
            spelled.append("--compile=on")
        else:
            spelled.append(argument)
    return spelled


def parse_variants(precision: str, compile_model: str) -> "list[Variant]":
    """Return every combination of lists such as `fp32,bf16` and `off,on`, the advised one first.

    Raises:
        typer.BadParameter: An entry is unknown or stands there twice.
    """
    known: dict[str, PrecisionName] = {name: name for name in get_args(PrecisionName)}
    precisions = _parse(precision, known, "--precision", f"is not one of {', '.join(known)}")
    wrong = "is neither on nor off; write --compile, --compile off,on or --no-compile"
    compiled = _parse(compile_model, _STATES, "--compile", wrong)

    from advisor.training.data import Variant

    return [Variant(precision=one, compile=other) for one in precisions for other in compiled]


def parse_variant(precision: str, compile_model: str = "off") -> "Variant":
    """Return the one variant that both name; BadParameter where an entry is unknown or another."""
    variants = parse_variants(precision, compile_model)
    for option, text in (("--precision", precision), ("--compile", compile_model)):
        if "," in text:
            raise typer.BadParameter(
                f"{text!r} names several; this command takes one", param_hint=option
            )
    return variants[0]


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
