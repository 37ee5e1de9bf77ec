"""What one start of the script shows, and what the two first are told."""

import msgspec

from advisor.training.data import OptimizerFacts, WorkloadFacts, WorkloadSpec
from advisor.training.script.arguments import Filling, list_placeholders, read_defaults

#: The script's own batch over that of the second start, which should have two samples at least.
_RATIOS = (4, 2)
#: That the second start is told, so that a schedule over them shows.
_STEPS = 100


class ScriptSight(msgspec.Struct, frozen=True, kw_only=True):
    """What the first steps of one start showed."""

    filling: Filling
    #: What follows from this start alone.
    facts: WorkloadFacts
    #: With the rates that the script gave, whatever a schedule made of them.
    optimizer: OptimizerFacts
    #: Of a backward pass, by a DataLoader; by the first tensor that the model was called with.
    loader_size: int | None = None
    input_shape: tuple[int, ...] = ()
    #: Backward passes of a step; batches that came of one loader, and calls of the model.
    passes: int = 1
    loads: int = 0
    calls: int = 0
    other_steps: int = 0
    is_perturbed: bool = False
    clips_values: bool = False
    #: Of each step, the mean over its backward passes; None where none was a number.
    losses: tuple[float | None, ...] = ()
    #: Whether the operations behind the first one show a mean.
    is_mean: bool = False
    start_s: float = 0.0


def choose_own_filling(workload: WorkloadSpec) -> Filling:
    """Return what the first start is told: the values that the user gave, else nothing."""
    assert workload.script is not None
    given = read_defaults(workload.script.arguments)
    size = workload.base_batch_size
    return Filling(
        batch_size=size if size is not None else _read_size(given.get("batch_size")),
        accumulation=_read_size(given.get("accumulation")),
    )


def _read_size(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def choose_other_filling(workload: WorkloadSpec, own: ScriptSight) -> Filling:
    """Return what a second start is told, so that it tells whether the script listens.

    Its batch is none of the numbers that were seen, and so much smaller than the script's own that
    the losses tell whether they are sums.
    """
    assert workload.script is not None
    names = list_placeholders(workload.script.arguments)
    seen = {each for each in (own.loader_size, *own.input_shape) if each}
    guess = own.filling.batch_size or own.loader_size or next(iter(own.input_shape), 0)
    ranks = workload.script.ranks
    parts = own.passes * ranks if workload.script.batch_is_global else 1
    ratio = next((each for each in _RATIOS if guess >= 2 * each * parts), 1)
    size = guess // ratio if ratio > 1 else guess + parts
    size = max(parts, size // parts * parts)
    while size // parts in seen:
        size += parts
    accumulation = 2 * own.passes if "accumulation" in names else None
    if accumulation is not None and workload.script.batch_is_global:
        size = size // parts * accumulation * ranks
    rate = own.optimizer.learning_rate if "learning_rate" in names else None
    steps = _STEPS if "steps" in names else None
    return Filling(batch_size=size, accumulation=accumulation, learning_rate=rate, steps=steps)
