"""What weakens the advice, each fact with what to do about it."""

from collections.abc import Iterator

from advisor.advice.decide import Decision
from advisor.advice.frontier import LEAST_STEPS_PER_EPOCH
from advisor.loader.data import LoaderConclusion
from advisor.race.plan import CUT_SHORT, UNTIMED, find_obstacle
from advisor.soak.data import SoakConclusion
from advisor.units import (
    count_of,
    format_count,
    format_figure,
    format_number,
    format_percent,
    render_bytes,
)

#: Ratio of the batches, up or down, beyond which a rule is far outside of what it was tested on.
MOST_TRUSTED_RATIO = 8.0
#: More workers than this are no sensible advice: each is a process with its own memory.
_MOST_ADVISED_WORKERS = 64


def list_deciding(
    decision: Decision, soak: SoakConclusion | None, loader: LoaderConclusion | None
) -> Iterator[str]:
    """Yield the warnings that would change what a reader does, worst first."""
    broken = decision.facts.not_finite_sample
    if broken is not None:
        yield (
            f"Sample {broken} of the dataset holds a NaN or an infinity: a loss that it makes NaN "
            "ends the training. Leave the sample out, or fill it in."
        )
    if soak is not None:
        yield from _warn_of_soak(soak, decision.way.micro_batch_size)
    if decision.race.does_base_train is False:
        yield (
            f"Your own pair does not train: {decision.race.reason}. Check the base rate and the "
            "base batch size first."
        )
    if loader is not None and loader.status == "limits":
        yield _warn_of_loader(loader)
    fall, size = decision.throughput.fall, decision.way.micro_batch_size
    slower = None if fall is None else fall.slower_fraction.point
    # Only a given batch may need a micro-batch beyond the fastest one.
    if fall is not None and slower is not None and size > fall.peak_micro_batch_size:
        peak = format_count(fall.peak_micro_batch_size)
        yield (
            f"Micro-batch {format_count(size)} lies beyond the fastest, {peak}: throughput falls "
            f"from there, by {format_percent(slower, decimals=0)} at "
            f"{format_count(fall.micro_batch_size)}. Stay at or below {peak}."
        )
    yield from _warn_of_rule(decision)


def list_minor(decision: Decision) -> Iterator[str]:
    """Yield the other warnings: how sure the figures are, and what was not tried."""
    memory, throughput, race = decision.memory, decision.throughput, decision.race
    yield from memory.disturbances
    saturation = throughput.saturation
    # Where fewer than three sizes can run, no time tells more.
    if saturation.status == "inconclusive" and not saturation.is_range_short:
        yield (
            "The sessions do not tell where larger batches stop being faster. Raise --budget and "
            "leave the machine idle meanwhile."
        )
    if not memory.verified:
        yield (
            f"Micro-batch {format_count(memory.max_micro_batch_size or 0)} ran, but it is not "
            "verified as the largest that does. Raise --budget for a longer search."
        )
    if not decision.is_timed_to_the_end and decision.basis != "given":
        largest = max(point.micro_batch_size for point in throughput.points)
        yield (
            f"Micro-batches above {format_count(largest)} fit but were not timed. Raise --budget "
            "to time them."
        )
    if race.does_base_train is None or (race.does_base_train and not race.pairs):
        yield (
            "No other pair was trained, so nothing is known of what would be faster: "
            f"{race.reason or 'the time did not suffice'}. {_instruct_untrained(decision)}."
        )


def _warn_of_soak(soak: SoakConclusion, micro_batch_size: int) -> Iterator[str]:
    if soak.failed:
        *others, last = map(format_count, soak.failed)
        sizes = f"Micro-batches {', '.join(others)} and {last}" if others else f"Micro-batch {last}"
        size = format_count(micro_batch_size)
        if micro_batch_size == soak.micro_batch_size:
            yield (
                f"{sizes} fitted for a few steps, but ran out of memory when trained for longer. "
                f"Stay at micro-batch {size}."
            )
        else:
            yield (
                f"{sizes} ran out of memory when trained for longer, and {size} was not trained "
                "for as long. Raise --memory-limit, or train it for longer before you rely on it."
            )
    growth, steps = soak.growth_bytes_per_step, soak.steps_until_full
    if growth is not None and growth.point is not None:
        full = ""
        if steps is not None:
            full = f", which fills the limit after about {format_figure(steps)} steps"
        yield (
            f"Memory grows by {render_bytes(growth.point)} with each step{full}. Check what is "
            "kept from step to step, such as losses or outputs appended to a list: append "
            "loss.item() or .detach() them."
        )
    evaluation, training = soak.evaluation_peak_bytes, soak.training_peak_bytes
    if soak.evaluation_needs_more and evaluation is not None and training is not None:
        yield (
            f"Evaluating micro-batch {format_count(soak.micro_batch_size)} takes "
            f"{render_bytes(evaluation)}, more than the {render_bytes(training)} of training. Set "
            "a smaller batch for evaluation."
        )


def _warn_of_loader(loader: LoaderConclusion) -> str:
    own, alone = loader.points[0], loader.training_samples_per_s.point
    instruction = _choose_workers(loader)
    if loader.is_iterable and (loader.advised_workers or loader.workers_needed):
        instruction += (
            "; an iterable dataset must divide its samples among them by "
            "torch.utils.data.get_worker_info()"
        )
    return (
        f"The loader is the limit: with {count_of(own.workers, 'worker')} batch "
        f"{format_count(loader.micro_batch_size)} trains at "
        f"{format_number(own.together_samples_per_s.point or 0.0)} samples/s, at "
        f"{format_number(alone or 0.0)} if it did not wait for data. {instruction}."
    )


def _choose_workers(loader: LoaderConclusion) -> str:
    """Return which number of workers to set or to try, or what else makes loading faster."""
    advised, needed = loader.advised_workers, loader.workers_needed
    parts = []
    point = loader.find_point(advised)
    if point is not None and point.together_samples_per_s.point is not None:
        parts.append(
            f"Set num_workers={advised} and persistent_workers=True in the DataLoader, which ran "
            f"at {format_number(point.together_samples_per_s.point)} samples/s"
        )
    if needed is not None and needed <= _MOST_ADVISED_WORKERS and not loader.find_point(needed):
        untried = f"num_workers={needed}, which suffices if every worker loads as fast as those "
        untried += "timed: it was not run"
        if loader.cores is not None and loader.cores < needed:
            cores = count_of(loader.cores, "processor")
            untried += f", and with {cores} here it can hold only where loading waits instead of "
            untried += "computing"
        parts.append(f"{'try' if parts else 'Try'} {untried}")
    if parts:
        return "; ".join(parts)
    most = max(point.workers for point in loader.points)
    if most == loader.own_workers:
        return "Raise --budget so that the number of workers that suffices can be measured"
    return (
        "Make a sample cheaper to load, or read whole batches at once (__getitems__ of the "
        f"dataset): {count_of(most, 'worker')} did not make it faster"
    )


def _warn_of_rule(decision: Decision) -> Iterator[str]:
    """Yield what is missing to start from, a batch far from where the rate was tuned, or large."""
    facts, batch = decision.facts, decision.way.global_batch_size
    optimizer, base, size = facts.optimizer, facts.base_batch_size, facts.dataset_size
    if optimizer is not None and optimizer.is_default:
        yield (
            "The model file has no make_optimizer, so AdamW at its default rate stood in. Add "
            "make_optimizer with the rate that you train with."
        )
    if optimizer is not None and base is None:
        yield (
            "The batch that the learning rate was tuned for is not known. Set BASE_BATCH_SIZE in "
            "the model file, or give --base-batch-size."
        )
    elif optimizer is not None and base is not None:
        ratio = batch / base
        if not 1.0 / MOST_TRUSTED_RATIO <= ratio <= MOST_TRUSTED_RATIO:
            yield (
                f"The batch is {format_figure(ratio)} times the one that the rate was tuned for, "
                "further than the rules were tested. Tune the rate again around the advised one."
            )
    if size is not None and batch * LEAST_STEPS_PER_EPOCH > size:
        yield (
            f"An epoch of {format_count(size)} samples has only "
            f"{count_of(-(-size // batch), 'step')} at batch {format_count(batch)}. Count schedule "
            "and warm-up in steps rather than epochs."
        )


def _instruct_untrained(decision: Decision) -> str:
    """Return what to do where no other pair was trained: more time only where that was short."""
    _, instruction = find_obstacle(decision.facts)
    if instruction:
        return instruction
    if decision.race.reason in {CUT_SHORT, UNTIMED}:
        return "What ended it is told with the answer"
    if decision.race.base is not None:
        return "Raise --budget so that pairs can be trained"
    return "Give the optimizer a rate that trains, or raise --budget"
