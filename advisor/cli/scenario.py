"""`--gpus`, `--price`, `--milestones` and their like: training as the user plans it, on paper."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from advisor.advice.data import Moment, Scenario

_Given = TypeVar("_Given")
_Parsed = TypeVar("_Parsed")

#: What a field replaces of a saved run, since a run has one length and one rate schedule.
_EXCLUDED = {
    "samples": "epochs",
    "epochs": "samples",
    "milestones": "cosine",
    "cosine": "milestones",
}


def build_scenario(
    saved: "Scenario | None" = None,
    *,
    gpus: str | None = None,
    price: float | None = None,
    interconnect: str | None = None,
    samples: int | None = None,
    epochs: float | None = None,
    milestones: str | None = None,
    gamma: float | None = None,
    cosine: str | None = None,
) -> "Scenario":
    """Return what the options say, and of the saved scenario what they leave as it was.

    Raises:
        typer.BadParameter: A value is impossible, or two contradict each other.
        UsageError: No interconnect has that name.
    """
    import msgspec

    from advisor.advice.data import Scenario
    from advisor.device.interconnects import find_interconnect

    _refuse_both("--samples", samples, "--epochs", epochs)
    _refuse_both("--milestones", milestones, "--cosine", cosine)
    given = {
        "gpus": _apply(parse_counts, gpus),
        "price_per_gpu_hour": _apply(lambda one: _require_positive(one, "--price"), price),
        "interconnect": _apply(find_interconnect, interconnect),
        "samples": _apply(lambda one: int(_require_positive(one, "--samples")), samples),
        "epochs": _apply(lambda one: _require_positive(one, "--epochs"), epochs),
        "milestones": _apply(parse_milestones, milestones),
        "gamma": _apply(_require_cut, gamma),
        "cosine": _apply(lambda one: parse_moment(one, "--cosine"), cosine),
    }
    changes: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    for name in tuple(changes):
        if name in _EXCLUDED:
            other = _EXCLUDED[name]
            changes.setdefault(other, () if other == "milestones" else None)
    return msgspec.structs.replace(saved or Scenario(), **changes)


def parse_counts(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as `1,2,4`, ascending.

    Raises:
        typer.BadParameter: One is not a whole number above zero.
    """
    counts = set()
    for part in text.split(","):
        if not part.strip().isdecimal() or int(part) == 0:
            raise typer.BadParameter(
                f"{part.strip()!r} is not a number of GPUs; write such as 1,2,4",
                param_hint="--gpus",
            )
        counts.add(int(part))
    return tuple(sorted(counts))


def parse_milestones(text: str) -> "tuple[Moment, ...]":
    """Return the moments of a list such as `30e,60e`.

    Raises:
        typer.BadParameter: They do not ascend, or are not all steps or all epochs.
    """
    moments = tuple(parse_moment(part, "--milestones") for part in text.split(","))
    places = [moment.at for moment in moments]
    if places != sorted(set(places)) or len({moment.unit for moment in moments}) > 1:
        raise typer.BadParameter(
            f"{text!r} does not ascend in one unit; write such as 30e,60e or 3000,6000",
            param_hint="--milestones",
        )
    return moments


def parse_moment(text: str, option: str) -> "Moment":
    """Return the moment that `text` names: `3000` is a step, `30e` an epoch.

    Raises:
        typer.BadParameter: It is not a number above zero.
    """
    from advisor.advice.data import Moment

    stripped = text.strip().lower()
    number = stripped.removesuffix("e")
    try:
        at = float(number) if "e" not in number else math.nan
    except ValueError:
        at = math.nan
    if not 0.0 < at < math.inf:
        raise typer.BadParameter(
            f"{text.strip()!r} is neither a step nor an epoch; write such as 3000 or 30e",
            param_hint=option,
        )
    return Moment(at=at, unit="epoch" if stripped.endswith("e") else "step")


def _require_positive(value: float, option: str) -> float:
    if not 0.0 < value < math.inf:
        raise typer.BadParameter(f"{value:g} is not above zero", param_hint=option)
    return value


def _require_cut(gamma: float) -> float:
    if not 0.0 < gamma < 1.0:
        raise typer.BadParameter(f"{gamma:g} is not between 0 and 1", param_hint="--gamma")
    return gamma


def _refuse_both(one: str, first: object, other: str, second: object) -> None:
    if first is not None and second is not None:
        raise typer.BadParameter(f"{one} and {other} exclude each other", param_hint=one)


def _apply(parse: Callable[[_Given], _Parsed], value: _Given | None) -> _Parsed | None:
    return None if value is None else parse(value)
