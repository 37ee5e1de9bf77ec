"""`--gpus`, `--price`, `--milestones` and their like: training as the user plans it, on paper."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli import options
from advisor.cli.quantities import parse_counts

if TYPE_CHECKING:
    from advisor.advice.data import Moment, Scenario

GpuCounts = Annotated[
    str | None,
    options.option(
        "--gpus",
        metavar="N[,N...]",
        show_default="1",
        help="Numbers of GPUs like this one whose time and cost to compare, on paper.",
    ),
]
Price = Annotated[
    float | None,
    options.option(
        "--price",
        metavar="AMOUNT",
        help="Price of a GPU for an hour; without it costs are in GPU time.",
    ),
]
InterconnectName = Annotated[
    str | None,
    options.option(
        "--interconnect",
        metavar="NAME|GB/s",
        help="What links the GPUs, such as nvlink4, pcie4 or ethernet-100g, or its GB/s for each "
        "GPU and direction.",
    ),
]
Samples = Annotated[
    int | None,
    options.option(
        "--samples",
        metavar="N",
        help="Samples that your training takes at the base batch; gives hours and money.",
    ),
]
Epochs = Annotated[
    float | None,
    options.option("--epochs", metavar="N", help="The same in passes over the dataset."),
]
Milestones = Annotated[
    str | None,
    options.option(
        "--milestones",
        metavar="STEP[,STEP...]",
        help="Where your schedule cuts the rate, in steps at the base batch or, as 30e,60e, in "
        "epochs: a growing batch in its place.",
    ),
]
Gamma = Annotated[
    float | None,
    options.option(
        "--gamma",
        show_default="0.1",
        help="With --milestones: what the rate is multiplied with at each.",
    ),
]
Cosine = Annotated[
    str | None,
    options.option(
        "--cosine",
        metavar="STEPS",
        help="Where your cosine schedule ends, in steps or, as 90e, in epochs: a growing batch in "
        "its place.",
    ),
]

#: What replaces what of a saved run, since a run has one length and one rate schedule.
_EXCLUSIVE = (("samples", "epochs"), ("milestones", "cosine"))


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

    for option, value in (("--price", price), ("--samples", samples), ("--epochs", epochs)):
        if value is not None and not 0.0 < value < math.inf:
            raise typer.BadParameter(f"{value:g} is not above zero", param_hint=option)
    if gamma is not None and not 0.001 <= gamma < 1.0:
        raise typer.BadParameter(f"{gamma:g} is not between 0.001 and 1", param_hint="--gamma")
    given = {
        "gpus": None if gpus is None else _parse_gpus(gpus),
        "price_per_gpu_hour": price,
        "interconnect": None if interconnect is None else find_interconnect(interconnect),
        "samples": samples,
        "epochs": epochs,
        "milestones": None if milestones is None else _parse_milestones(milestones),
        "gamma": gamma,
        "cosine": None if cosine is None else _parse_moment(cosine, "--cosine"),
    }
    changes: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    unstated = Scenario()
    for one, other in _EXCLUSIVE:
        if one in changes and other in changes:
            raise typer.BadParameter(
                f"--{one} and --{other} exclude each other", param_hint=f"--{one}"
            )
        if one in changes or other in changes:
            replaced = other if one in changes else one
            changes[replaced] = getattr(unstated, replaced)
    return msgspec.structs.replace(saved or unstated, **changes)


def _parse_gpus(text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as `1,2,4`, ascending, each once."""
    counts = parse_counts(text, option="--gpus", what="a number of GPUs; write such as 1,2,4")
    return tuple(sorted(set(counts)))


def _parse_milestones(text: str) -> "tuple[Moment, ...]":
    """Return the moments of a list such as `30e,60e`, ascending in one unit."""
    moments = tuple(_parse_moment(part, "--milestones") for part in text.split(","))
    places = [moment.at for moment in moments]
    if places != sorted(set(places)) or len({moment.unit for moment in moments}) > 1:
        raise typer.BadParameter(
            f"{text!r} does not ascend in one unit; write such as 30e,60e or 3000,6000",
            param_hint="--milestones",
        )
    return moments


def _parse_moment(text: str, option: str) -> "Moment":
    """Return the moment that `text` names: `3000` is a step, `30e` an epoch."""
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
