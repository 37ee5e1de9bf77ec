"""What two starts of the script showed -> what it is: batch, optimizer, rate, accumulation."""

import math
from typing import NamedTuple

from msgspec.structs import replace

from advisor.errors import WorkloadError
from advisor.training.data import LossReduction, Script, ScriptFacts, WorkloadFacts, WorkloadSpec
from advisor.training.script.arguments import NAMES, list_placeholders
from advisor.training.script.sight import ScriptSight
from advisor.units import format_count

#: Log of two batches' ratio below which losses do not tell a sum from a mean.
_LEAST_RATIO = 0.6


class _Source(NamedTuple):
    """What tells the script's batch: its samples in either start, and how many a step has."""

    size: int
    other_size: int
    parts: int
    other_parts: int
    #: Of the model's first input; None for the DataLoader.
    dimension: int | None

    @property
    def name(self) -> str:
        if self.dimension is None:
            return "its DataLoader"
        return f"dimension {self.dimension} of the model's input"


def conclude_facts(workload: WorkloadSpec, own: ScriptSight, other: ScriptSight) -> WorkloadFacts:
    """Return the facts of the script; WorkloadError where it ignores what its placeholders say."""
    script, asked = workload.script, other.filling.batch_size
    assert script is not None
    assert asked is not None
    names = list_placeholders(script.arguments)
    source = _find_source(own, other, asked, script)
    if source is None and _describe_batches(own) != _describe_batches(other):
        raise WorkloadError(
            f"{workload.file} takes other batches than {{batch_size}} says: told {asked}, they "
            f"were {_describe_batches(other)}, with its own batch {_describe_batches(own)}",
            next_step="Say what {batch_size} is the batch of: one backward pass of one process, "
            "--batch-size-is micro, or an optimizer step, --batch-size-is global.",
        )
    if source is None:
        raise WorkloadError(
            f"{workload.file} ignores {{batch_size}}: told {asked}, its batches were "
            f"{_describe_batches(other)}, as with its own batch {_describe_batches(own)}",
            next_step="Put {batch_size} where the script reads its batch from; "
            "--batch-size-is global says that the argument is that of an optimizer step.",
        )
    if "accumulation" in names and source.other_parts != other.filling.accumulation:
        raise WorkloadError(
            f"{workload.file}: told to accumulate {other.filling.accumulation} micro-batches, it "
            f"made {source.other_parts} for a step",
            next_step="Leave {accumulation} out, or correct the argument.",
        )
    if "accumulation" not in names and source.parts != source.other_parts:
        raise WorkloadError(
            f"{workload.file} makes a step of {source.parts} × {source.size} samples by itself, "
            f"and of {source.other_parts} × {source.other_size} where {{batch_size}} is {asked}: "
            "the batch of its steps stays as it is",
            next_step="Put {accumulation} where the script reads how many it makes a step of, or "
            "{batch_size} where it reads the batch of a step.",
        )
    why = _explain_untrained(own)
    rates = [sight.optimizer.learning_rate or math.nan for sight in (own, other)]
    takes_rate = "learning_rate" in names and math.isclose(*rates, rel_tol=1e-6)
    parts = script.ranks * (1 if "accumulation" in names else source.parts)
    reduction, divides = _judge_losses(own, other, source)
    has_scheduler = own.facts.has_scheduler or other.facts.has_scheduler
    return replace(
        own.facts,
        how_batch=f"{source.size} samples for each backward pass, by {source.name}",
        has_dataset=not why,
        optimizer=own.optimizer,
        has_scheduler=has_scheduler,
        base_batch_size=source.size * source.parts * script.ranks,
        min_micro_batch_size=parts * (2 if own.facts.has_batch_statistics else 1),
        loss_reduction=reduction,
        first_loss=next(iter(own.losses), None),
        notes=tuple(_list_notes(script, own, other, source, names, takes_rate=takes_rate)),
        script=ScriptFacts(
            script=replace(
                script,
                parts=parts,
                divides_loss=divides,
                stretches_schedule=has_scheduler and "steps" in names,
                dimension=source.dimension,
            ),
            placeholders=tuple(name for name in NAMES if name in names),
            counted_by=source.name,
            takes_rate=takes_rate,
            start_s=min(own.start_s, other.start_s),
            why_untrained=why,
        ),
    )


def _judge_losses(
    own: ScriptSight, other: ScriptSight, source: _Source
) -> tuple[LossReduction, bool]:
    """Return whether a first loss goes with the batch, and with how many a step has.

    The first is a sum over samples, the second was divided by the backward passes.
    """
    first, second = (
        math.fsum(loss for loss in sight.losses if loss is not None) for sight in (own, other)
    )
    by_batch = math.log(source.size / source.other_size)
    by_parts = math.log(source.other_parts / source.parts)
    if first * second <= 0.0 or abs(by_batch) < _LEAST_RATIO:
        return "unknown", False
    kinds = list[tuple[LossReduction, bool, float]]()
    for divides in (False, True) if by_parts else (False,):
        kinds += [("mean", divides, divides * by_parts)]
        if not own.is_mean:
            kinds += [("sum", divides, by_batch + divides * by_parts)]
    moved = math.log(first / second)
    reduction, divides, expected = min(kinds, key=lambda kind: abs(moved - kind[2]))
    is_near = abs(moved - expected) < abs(by_batch) / 2.0
    return reduction if is_near or own.is_mean else "unknown", divides


def _find_source(
    own: ScriptSight, other: ScriptSight, asked: int, script: Script
) -> _Source | None:
    shapes = enumerate(zip(own.input_shape, other.input_shape, strict=False))
    sizes: list[tuple[int | None, tuple[int | None, int | None]]] = [*shapes]
    for dimension, (size, other_size) in [(None, (own.loader_size, other.loader_size)), *sizes]:
        if size is None or other_size is None:
            continue
        parts, other_parts = (
            _count_parts(sight, sight.loads if dimension is None else sight.calls)
            for sight in (own, other)
        )
        shares = other_parts * script.ranks if script.batch_is_global else 1
        if other_size == asked // shares != size:
            return _Source(size, other_size, parts, other_parts, dimension)
    return None


def _count_parts(sight: ScriptSight, batches: int) -> int:
    """Return over how many micro-batches a step is spread.

    Several passes of one batch, as of two losses or two optimizers, are none; nor are several
    batches of one pass.
    """
    if sight.other_steps or sight.is_perturbed or sight.optimizer.needs_closure:
        return 1
    return max(1, min(sight.passes, batches))


def _describe_batches(sight: ScriptSight) -> str:
    shape = "×".join(map(str, sight.input_shape)) or "not seen"
    return shape if sight.loader_size is None else f"{sight.loader_size} samples ({shape})"


def _explain_untrained(own: ScriptSight) -> str:
    """Return why neither noise nor rates can be told; empty where they can."""
    name, losses = own.optimizer.name, own.losses
    reasons = {
        "the script steps several optimizers": own.other_steps,
        f"{name} evaluates the loss itself": own.optimizer.needs_closure,
        "the script moves its parameters between the backward passes of a step, as SAM does": (
            own.is_perturbed
        ),
        "the script's backward passes start from no loss that is one finite number": (
            losses.count(None) == len(losses)
        ),
        "the optimizer has no learning rate": not own.optimizer.learning_rate,
    }
    return next((why for why, holds in reasons.items() if holds), "")


def _list_notes(
    script: Script,
    own: ScriptSight,
    other: ScriptSight,
    source: _Source,
    names: frozenset[str],
    *,
    takes_rate: bool,
) -> list[str]:
    notes = []
    if script.ranks > 1:
        notes.append(f"{format_count(script.ranks)} ranks train together")
    if source.parts > 1:
        notes.append(f"each optimizer step has {format_count(source.parts)} backward passes")
    if own.facts.clip_grad_norm is not None:
        notes.append(f"gradients are clipped to norm {own.facts.clip_grad_norm:g}")
    if own.clips_values:
        notes.append("each element of the gradients is clipped")
    if "learning_rate" in names and not takes_rate:
        notes.append(
            "the optimizer's rate is another one than {learning_rate} says (told "
            f"{other.filling.learning_rate:g}, it had {other.optimizer.learning_rate or 0.0:g}): "
            "the rates here are the optimizer's own"
        )
    return notes
