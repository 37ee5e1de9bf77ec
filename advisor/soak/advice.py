"""The decision after a soak: a micro-batch that ran out of memory when soaked is not advised."""

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from advisor.advice.candidates import Candidate
from advisor.advice.decide import Decision, decide
from advisor.memory.data import MemoryConclusion
from advisor.memory.split import can_split, split_batch
from advisor.rate.rules import Caution
from advisor.soak.data import Soak, SoakConclusion
from advisor.soak.plan import find_failed_sizes
from advisor.statistics import Estimate
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.step_time import estimate_step_s, read_throughput
from advisor.training.data import WorkloadFacts
from advisor.units import render_figure


def decide_soaked(
    facts: WorkloadFacts,
    memory: MemoryConclusion,
    throughput: ThroughputConclusion,
    noise_scale: Estimate | None,
    soaks: Sequence[Soak],
    *,
    tried_s: Mapping[int, float | None] | None = None,
    batch_multiple: int = 1,
    global_batch_size: int | None = None,
) -> Decision | None:
    """Return the batch to advise; None where no size is left that was timed.

    Where its micro-batch failed a soak, the same batch is made of smaller ones; where it cannot be
    split, a smaller batch is decided on, unless the user keeps to the batch: then there is none.
    """
    choose = partial(decide, tried_s=tried_s, global_batch_size=global_batch_size)
    decision = choose(facts, memory, throughput, noise_scale)
    failed = min(find_failed_sizes(soaks), default=None)
    if decision is None or failed is None or decision.chosen.micro_batch_size < failed:
        return decision
    split = split_batch(
        decision.chosen.global_batch_size,
        largest=failed - 1,
        smallest=facts.min_micro_batch_size,
        multiple=batch_multiple,
        may_split=can_split(facts),
    )
    if split is None:
        capped = msgspec.structs.replace(
            memory, max_micro_batch_size=failed - 1, limited_by="memory"
        )
        return choose(facts, capped, throughput, noise_scale)
    return _replace_chosen(decision, throughput, *split)


def explain_split(decision: Decision) -> str:
    """Return why the batch is made of several micro-batches where one would be faster."""
    chosen = decision.chosen
    return (
        f"Batch {chosen.global_batch_size} is made of {chosen.gradient_accumulation_steps} "
        f"micro-batches of {chosen.micro_batch_size}, since larger ones ran out of memory when "
        "they were trained for longer."
    )


def warn_of_soak(soak: SoakConclusion | None, micro_batch_size: int) -> list[Caution]:
    """Return what the soak says against the advised micro-batch."""
    if soak is None:
        return []
    warnings = [*_warn_of_failures(soak, micro_batch_size), *_warn_of_growth(soak)]
    if soak.evaluation_needs_more:
        assert soak.evaluation_peak_bytes is not None
        assert soak.training_peak_bytes is not None
        warnings.append(
            Caution(
                fact=f"Evaluating micro-batch {soak.micro_batch_size} takes "
                f"{_render_mib(soak.evaluation_peak_bytes)}, more than the "
                f"{_render_mib(soak.training_peak_bytes)} of training",
                instruction="Set a smaller batch for evaluation",
            )
        )
    return warnings


def _replace_chosen(
    decision: Decision, throughput: ThroughputConclusion, size: int, times: int
) -> Decision:
    old = decision.chosen
    new = Candidate(
        micro_batch_size=size,
        gradient_accumulation_steps=times,
        step_s=estimate_step_s(read_throughput(throughput), size, times) or old.step_s,
    )
    candidates = tuple(new if each == old else each for each in decision.candidates)
    return msgspec.structs.replace(decision, chosen=new, candidates=candidates, is_split=True)


def _warn_of_failures(soak: SoakConclusion, micro_batch_size: int) -> list[Caution]:
    if not soak.failed:
        return []
    *others, last = (str(size) for size in soak.failed)
    sizes = f"Micro-batches {', '.join(others)} and {last}" if others else f"Micro-batch {last}"
    if micro_batch_size != soak.micro_batch_size:
        return [
            Caution(
                fact=f"{sizes} ran out of memory when trained for longer, and "
                f"{micro_batch_size} was not trained for as long",
                instruction="Raise --memory-limit, or train it for longer before you rely on it",
            )
        ]
    return [
        Caution(
            fact=f"{sizes} fitted for a few steps, but ran out of memory when trained for longer",
            instruction=f"Stay at micro-batch {micro_batch_size}",
        )
    ]


def _warn_of_growth(soak: SoakConclusion) -> list[Caution]:
    growth = soak.growth_bytes_per_step
    if growth is None or growth.point is None:
        return []
    full = ""
    if soak.steps_until_full is not None:
        full = f", which fills the limit after about {render_figure(soak.steps_until_full)} steps"
    return [
        Caution(
            fact=f"Memory grows by {_render_mib(growth.point)} with each step{full}",
            instruction="Check what is kept from step to step, such as losses or outputs appended "
            "to a list: append loss.item() or .detach() them",
        )
    ]


def _render_mib(size_bytes: float) -> str:
    return f"{render_figure(size_bytes / 2**20)} MiB"
