"""`--gpus`, `--price`, `--milestones` and their like: training as the user plans it, on paper."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from advisor.cli.options import option
from advisor.cli.quantities import parse_counts, read_number

if TYPE_CHECKING:
    from advisor.advice.data import Moment, Scenario


@dataclass(frozen=True, kw_only=True)
class OnPaper:
    """How the user plans to train."""

    gpus: str | None = option(
        "Numbers of GPUs like this one whose time and cost to compare, on paper.",
        metavar="N[,N...]",
        show_default="1",
    )
    price_per_gpu_hour: float | None = option(
        "Price of a GPU for an hour; without it costs are in GPU time.", "--price", metavar="AMOUNT"
    )
    interconnect: str | None = option(
        "What links the GPUs, such as nvlink4, pcie4 or ethernet-100g, or its GB/s for each GPU "
        "and direction.",
        metavar="NAME|GB/s",
    )
    samples: int | None = option(
        "Samples that your training takes at the base batch; gives hours and money.", metavar="N"
    )
    epochs: float | None = option("The same in passes over the dataset.", metavar="N")
    milestones: str | None = option(
        "Where your schedule cuts the rate, in steps at the base batch or, as 30e,60e, in epochs: "
        "a growing batch in its place.",
        metavar="STEP[,STEP...]",
    )
    gamma: float | None = option(
        "With --milestones: what the rate is multiplied with at each.", show_default="0.1"
    )
    cosine: str | None = option(
        "Where your cosine schedule ends, in steps or, as 90e, in epochs: a growing batch in its "
        "place.",
        metavar="STEPS",
    )


#: What replaces what of a saved run, since a run has one length and one rate schedule.
_EXCLUSIVE = (("samples", "epochs"), ("milestones", "cosine"))


def build_scenario(asked: OnPaper, saved: "Scenario | None" = None) -> "Scenario":
    """Return what the options say, and of the saved scenario what they leave as it was.

    Raises:
        typer.BadParameter: A value is impossible, or two contradict each other.
        UsageError: No interconnect has that name.
    """
    from msgspec.structs import replace

    from advisor.advice.data import Scenario
    from advisor.device.catalogue import find_interconnect

    numbers = {"price": asked.price_per_gpu_hour, "samples": asked.samples, "epochs": asked.epochs}
    for name, value in numbers.items():
        if value is not None and not 0.0 < value < math.inf:
            raise typer.BadParameter(f"{value:g} is not above zero", param_hint=f"--{name}")
    if asked.gamma is not None and not 0.001 <= asked.gamma < 1.0:
        what = f"{asked.gamma:g} is not between 0.001 and 1"
        raise typer.BadParameter(what, param_hint="--gamma")
    parsers: dict[str, Callable[[str], Any]] = {
        "gpus": _parse_gpus,
        "interconnect": find_interconnect,
        "milestones": _parse_milestones,
        "cosine": lambda text: _parse_moment(text, "--cosine"),
    }
    changes: dict[str, Any] = {
        name: parsers[name](value) if name in parsers else value
        for name, value in vars(asked).items()
        if value is not None
    }
    unstated = Scenario()
    for pair in _EXCLUSIVE:
        given = [name for name in pair if name in changes]
        if len(given) == 2:
            what = f"--{pair[0]} and --{pair[1]} exclude each other"
            raise typer.BadParameter(what, param_hint=f"--{pair[0]}")
        if given:
            changes |= {name: getattr(unstated, name) for name in pair if name not in given}
    return replace(saved or unstated, **changes)


def _parse_gpus(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as `1,2,4`, ascending, each once."""
    counts = parse_counts(text, option="--gpus", what="a number of GPUs; write such as 1,2,4")
    return tuple(sorted({*counts}))


def _parse_milestones(text: str) -> "tuple[Moment, ...]":
    """Return the moments of a list such as `30e,60e`, ascending in one unit."""
    moments = tuple(_parse_moment(part, "--milestones") for part in text.split(","))
    places = [moment.at for moment in moments]
    if places != sorted({*places}) or len({moment.unit for moment in moments}) > 1:
        what = f"{text!r} does not ascend in one unit; write such as 30e,60e or 3000,6000"
        raise typer.BadParameter(what, param_hint="--milestones")
    return moments


def _parse_moment(text: str, option: str) -> "Moment":
    """Return the moment that `text` names: `3000` is a step, `30e` an epoch."""
    from advisor.advice.data import Moment

    stripped = text.strip().lower()
    number = stripped.removesuffix("e")
    at = math.nan if "e" in number else read_number(number)
    if not 0.0 < at < math.inf:
        what = f"{text.strip()!r} is neither a step nor an epoch; write such as 3000 or 30e"
        raise typer.BadParameter(what, param_hint=option)
    return Moment(at=at, unit="epoch" if stripped.endswith("e") else "step")
