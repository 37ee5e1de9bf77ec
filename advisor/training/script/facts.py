"""What two starts of the script showed -> what it is: batch, optimizer, rate, accumulation."""

import math

import msgspec
from msgspec.structs import replace

from advisor.errors import WorkloadError
from advisor.training.data import (
    LossReduction,
    OptimizerFacts,
    Script,
    ScriptFacts,
    WorkloadFacts,
    WorkloadSpec,
)
from advisor.training.script.arguments import NAMES, Filling, list_placeholders, read_defaults
from advisor.units import format_count

#: Difference of the log of two first losses up to which a batch's size is not seen in them.
_SAME_LOSS = 0.5


class ScriptSight(msgspec.Struct, frozen=True, kw_only=True):
    """What the first steps of one start showed."""

    filling: Filling
    #: Of a backward pass, by a DataLoader; by the first tensor that the model was called with.
    loader_size: int | None = None
    input_shape: tuple[int, ...] = ()
    #: Backward passes of a step.
    passes: int = 1
    dataset_size: int | None = None
    workers: int | None = None
    model_name: str = ""
    parameter_count: int = 0
    trainable_parameter_count: int = 0
    parameter_bytes: int = 0
    has_batch_statistics: bool = False
    has_synchronised_statistics: bool = False
    #: With the rates that the script gave, whatever a schedule made of them.
    optimizer: OptimizerFacts
    other_steps: int = 0
    is_perturbed: bool = False
    has_scheduler: bool = False
    clip_grad_norm: float | None = None
    clips_values: bool = False
    #: Of each step, the mean over its backward passes; None where none was a number.
    losses: tuple[float | None, ...] = ()
    device: str = "cpu"
    start_s: float = 0.0
    steps: int = 0
    has_ended: bool = False


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

    Its batch is none of the numbers that were seen: half of the script's own, or nearly.
    """
    assert workload.script is not None
    names = list_placeholders(workload.script.arguments)
    seen = {each for each in (own.loader_size, *own.input_shape) if each}
    guess = own.filling.batch_size or own.loader_size or next(iter(own.input_shape), 0)
    ranks = workload.script.ranks
    parts = own.passes * ranks if workload.script.batch_is_global else 1
    size = guess // 2 if guess >= 4 * parts else guess + parts
    size = max(parts, size // parts * parts)
    while size // parts in seen:
        size += parts
    accumulation = own.passes + 1 if "accumulation" in names else None
    if accumulation is not None and workload.script.batch_is_global:
        size = size // parts * accumulation * ranks
    rate = own.optimizer.learning_rate if "learning_rate" in names else None
    return Filling(batch_size=size, accumulation=accumulation, learning_rate=rate)


def conclude_facts(workload: WorkloadSpec, own: ScriptSight, other: ScriptSight) -> WorkloadFacts:
    """Return the facts of the script.

    Raises:
        WorkloadError: It does not do what its placeholders say.
    """
    script, asked = workload.script, other.filling.batch_size
    assert script is not None
    assert asked is not None
    names = list_placeholders(script.arguments)
    if "accumulation" in names and other.passes != other.filling.accumulation:
        raise WorkloadError(
            f"{workload.target}: told to accumulate {other.filling.accumulation} micro-batches, it "
            f"made {other.passes} backward passes for a step",
            next_step="Leave {accumulation} out, or correct the argument.",
        )
    micro = asked // (other.passes * script.ranks if script.batch_is_global else 1)
    source = _find_source(own, other, micro)
    if source is None:
        raise WorkloadError(
            f"{workload.target} ignores {{batch_size}}: told {asked}, its batches were "
            f"{_describe_batches(other)}, as with its own batch {_describe_batches(own)}",
            next_step="Put {batch_size} where the script reads its batch from; "
            "--batch-size-is global says that the argument is that of an optimizer step.",
        )
    counted_by, size = source
    why = _explain_untrained(own)
    takes_rate = "learning_rate" in names and _is_near(
        own.optimizer.learning_rate, other.optimizer.learning_rate
    )
    parts = script.ranks * (1 if "accumulation" in names else own.passes)
    return WorkloadFacts(
        file=workload.target,
        model_name=own.model_name,
        how_model="as the script makes it",
        how_loss="of its backward passes",
        how_optimizer="as the script makes it",
        how_batch=f"{size} samples for each backward pass, by {counted_by}",
        parameter_count=own.parameter_count,
        trainable_parameter_count=own.trainable_parameter_count,
        parameter_bytes=own.parameter_bytes,
        dataset_size=own.dataset_size,
        has_dataset=not why,
        optimizer=own.optimizer,
        has_scheduler=own.has_scheduler,
        clip_grad_norm=own.clip_grad_norm,
        base_batch_size=size * own.passes * script.ranks,
        min_micro_batch_size=parts * (2 if own.has_batch_statistics else 1),
        has_batch_statistics=own.has_batch_statistics,
        has_synchronised_statistics=own.has_synchronised_statistics,
        loss_reduction=_find_reduction(own, other, size / micro),
        first_loss=next(iter(own.losses), None),
        notes=tuple(_list_notes(script, own, other, names, takes_rate=takes_rate)),
        script=ScriptFacts(
            script=replace(script, parts=parts, divides_loss=_divides_loss(own, other)),
            placeholders=tuple(name for name in NAMES if name in names),
            counted_by=counted_by,
            takes_rate=takes_rate,
            start_s=min(own.start_s, other.start_s),
            why_untrained=why,
        ),
    )


def _divides_loss(own: ScriptSight, other: ScriptSight) -> bool:
    """Return whether the script divides the loss of a backward pass by how many a step has."""
    first, second = (next(iter(each.losses), None) for each in (own, other))
    if own.passes == other.passes or not first or not second or first * second < 0.0:
        return False
    moved, divided = math.log(first / second), math.log(other.passes / own.passes)
    return abs(moved - divided) < abs(moved)


def _find_source(own: ScriptSight, other: ScriptSight, micro: int) -> tuple[str, int] | None:
    """Return what tells the batch, and the script's own size by it; None where nothing does."""
    if own.loader_size is not None and other.loader_size == micro != own.loader_size:
        return "its DataLoader", own.loader_size
    for place, (one, two) in enumerate(zip(own.input_shape, other.input_shape, strict=False)):
        if two == micro != one:
            return f"dimension {place} of the model's input", one
    return None


def _describe_batches(sight: ScriptSight) -> str:
    shape = "×".join(map(str, sight.input_shape)) or "not seen"
    return shape if sight.loader_size is None else f"{sight.loader_size} samples ({shape})"


def _explain_untrained(own: ScriptSight) -> str:
    """Return why neither noise nor rates can be told; empty where they can."""
    if own.other_steps:
        return "the script steps several optimizers"
    if own.is_perturbed:
        return "the script moves its parameters between the backward passes of a step, as SAM does"
    if own.optimizer.needs_closure:
        return f"{own.optimizer.name} evaluates the loss itself"
    if not any(loss is not None for loss in own.losses):
        return "the script's backward passes do not start from a loss"
    if not own.optimizer.learning_rate:
        return "the optimizer has no learning rate"
    return ""


def _is_near(one: float | None, other: float | None) -> bool:
    return bool(one and other) and math.isclose(one or 0.0, other or 0.0, rel_tol=1e-6)


def _find_reduction(own: ScriptSight, other: ScriptSight, ratio: float) -> LossReduction:
    """Return whether the first loss goes with the batch."""
    first, second = (next(iter(each.losses), None) for each in (own, other))
    if not first or not second or first * second < 0.0:
        return "unknown"
    moved = math.log(first / second)
    if abs(moved - math.log(ratio)) < _SAME_LOSS < abs(math.log(ratio)):
        return "sum"
    return "mean" if abs(moved) < _SAME_LOSS else "unknown"


def _list_notes(
    script: Script, own: ScriptSight, other: ScriptSight, names: frozenset[str], *, takes_rate: bool
) -> list[str]:
    notes = []
    if script.ranks > 1:
        notes.append(f"{format_count(script.ranks)} ranks train together")
    if own.passes > 1:
        notes.append(f"each optimizer step has {format_count(own.passes)} backward passes")
    if own.clip_grad_norm is not None:
        notes.append(f"gradients are clipped to norm {own.clip_grad_norm:g}")
    if own.clips_values:
        notes.append("each element of the gradients is clipped")
    if "learning_rate" in names and not takes_rate:
        notes.append(
            "the optimizer's rate is another one than {learning_rate} says (told "
            f"{other.filling.learning_rate:g}, it had {other.optimizer.learning_rate or 0.0:g}): "
            "the rates here are the optimizer's own"
        )
    return notes
