"""What weakens the advice, each fact with what to do about it."""

from collections.abc import Iterator
from enum import Enum

from advisor.advice.decide import Decision
from advisor.advice.frontier import LEAST_STEPS_PER_EPOCH
from advisor.loader.data import LoaderConclusion
from advisor.memory.data import MemoryConclusion
from advisor.race.data import Race
from advisor.race.plan import CUT_SHORT, UNTIMED
from advisor.soak.data import SoakConclusion
from advisor.throughput.data import ThroughputConclusion
from advisor.training.data import WorkloadFacts
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


class Caution(Enum):
    """Every warning there is: a fact, and what to do about it."""

    FAILED_SOAK = (
        "{sizes} fitted for a few steps, but ran out of memory when trained for longer. Stay at "
        "micro-batch {size}."
    )
    NOT_SOAKED = (
        "{sizes} ran out of memory when trained for longer, and {size} was not trained for as "
        "long. Raise --memory-limit, or train it for longer before you rely on it."
    )
    BROKEN_SAMPLE = (
        "Sample {sample} of the dataset holds a NaN or an infinity: a loss that it makes NaN ends "
        "the training. Leave the sample out, or fill it in."
    )
    GROWING_MEMORY = (
        "Memory grows by {growth} with each step{full}. Check what is kept from step to step, such "
        "as losses or outputs appended to a list: append loss.item() or .detach() them."
    )
    LARGE_EVALUATION = (
        "Evaluating micro-batch {size} takes {evaluation}, more than the {training} of training. "
        "Set a smaller batch for evaluation."
    )
    SLOW_LOADER = (
        "The loader is the limit: with {workers} batch {size} trains at {together} samples/s, at "
        "{alone} if it did not wait for data. {instruction}."
    )
    UNKNOWN_SATURATION = (
        "The sessions do not tell where larger batches stop being faster. Raise --budget and leave "
        "the machine idle meanwhile."
    )
    UNVERIFIED_MEMORY = (
        "Micro-batch {size} ran, but it is not verified as the largest that does. Raise --budget "
        "for a longer search."
    )
    UNTIMED_END = "Micro-batches above {size} fit but were not timed. Raise --budget to time them."
    BEYOND_FASTEST = (
        "Micro-batch {size} lies beyond the fastest, {peak}: throughput falls from there, by "
        "{slower} at {last}. Stay at or below {peak}."
    )
    SHORT_EPOCHS = (
        "An epoch of {samples} samples has only {steps} at batch {batch}. Count schedule and "
        "warm-up in steps rather than epochs."
    )
    DEFAULT_OPTIMIZER = (
        "The model file has no make_optimizer, so AdamW at its default rate stood in. Add "
        "make_optimizer with the rate that you train with."
    )
    NO_BASE_BATCH = (
        "The batch that the learning rate was tuned for is not known. Set BASE_BATCH_SIZE in the "
        "model file, or give --base-batch-size."
    )
    FAR_FROM_BASE = (
        "The batch is {ratio} times the one that the rate was tuned for, further than the rules "
        "were tested. Tune the rate again around the advised one."
    )
    BASE_FAILS = (
        "Your own pair does not train: {reason}. Check the base rate and the base batch size first."
    )
    NO_TRIAL = (
        "No other pair was trained, so nothing is known of what would be faster: {reason}. "
        "{instruction}."
    )

    def say(self, **figures: object) -> str:
        """Return the sentences with these figures in them."""
        told = {key: format_count(x) if isinstance(x, int) else x for key, x in figures.items()}
        return self.value.format(**told)


def list_deciding(
    facts: WorkloadFacts,
    decision: Decision,
    throughput: ThroughputConclusion,
    soak: SoakConclusion | None = None,
    loader: LoaderConclusion | None = None,
) -> tuple[str, ...]:
    """Return the warnings that would change what a reader does, worst first."""
    return (
        *_warn_of_training(facts, decision, soak),
        *_warn_of_loader(loader),
        *_warn_of_fall(decision, throughput),
        *_warn_of_rule(facts, decision.way.global_batch_size),
    )


def list_minor(
    facts: WorkloadFacts,
    decision: Decision,
    memory: MemoryConclusion,
    throughput: ThroughputConclusion,
) -> tuple[str, ...]:
    """Return the other warnings: how sure the figures are, and what was not tried."""
    return (
        *memory.disturbances,
        *_warn_of_measurements(decision, memory, throughput),
        *_warn_of_no_trial(facts, decision),
    )


def _warn_of_training(
    facts: WorkloadFacts, decision: Decision, soak: SoakConclusion | None
) -> Iterator[str]:
    """Yield what ends a longer training, or may, and that the user's own pair does not train."""
    if facts.not_finite_sample is not None:
        yield Caution.BROKEN_SAMPLE.say(sample=str(facts.not_finite_sample))
    if soak is not None:
        yield from _warn_of_soak(soak, decision.way.micro_batch_size)
    if decision.race.does_base_train is False:
        yield Caution.BASE_FAILS.say(reason=decision.race.reason)


def _warn_of_soak(soak: SoakConclusion, micro_batch_size: int) -> Iterator[str]:
    if soak.failed:
        *others, last = map(format_count, soak.failed)
        sizes = f"Micro-batches {', '.join(others)} and {last}" if others else f"Micro-batch {last}"
        is_soaked = micro_batch_size == soak.micro_batch_size
        caution = Caution.FAILED_SOAK if is_soaked else Caution.NOT_SOAKED
        yield caution.say(sizes=sizes, size=micro_batch_size)
    growth, steps = soak.growth_bytes_per_step, soak.steps_until_full
    if growth is not None and growth.point is not None:
        full = ""
        if steps is not None:
            full = f", which fills the limit after about {format_figure(steps)} steps"
        yield Caution.GROWING_MEMORY.say(growth=render_bytes(growth.point), full=full)
    evaluation, training = soak.evaluation_peak_bytes, soak.training_peak_bytes
    if soak.evaluation_needs_more and evaluation is not None and training is not None:
        yield Caution.LARGE_EVALUATION.say(
            size=soak.micro_batch_size,
            evaluation=render_bytes(evaluation),
            training=render_bytes(training),
        )


def _warn_of_loader(loader: LoaderConclusion | None) -> Iterator[str]:
    if loader is None or loader.status != "limits":
        return
    own, alone = loader.points[0], loader.training_samples_per_s.point
    together = own.together_samples_per_s.point
    assert together is not None
    assert alone is not None
    instruction = _choose_workers(loader)
    if loader.is_iterable and (loader.advised_workers or loader.workers_needed):
        instruction += (
            "; an iterable dataset must divide its samples among them by "
            "torch.utils.data.get_worker_info()"
        )
    yield Caution.SLOW_LOADER.say(
        workers=count_of(own.workers, "worker"),
        size=format_count(loader.micro_batch_size),
        together=format_number(together),
        alone=format_number(alone),
        instruction=instruction,
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


def _warn_of_measurements(
    decision: Decision, memory: MemoryConclusion, throughput: ThroughputConclusion
) -> Iterator[str]:
    saturation = throughput.saturation
    # Where fewer than three sizes can run, no time tells more.
    if saturation.status == "inconclusive" and not saturation.is_range_short:
        yield Caution.UNKNOWN_SATURATION.say()
    if not memory.verified:
        yield Caution.UNVERIFIED_MEMORY.say(size=memory.max_micro_batch_size)
    if not decision.is_timed_to_the_end and decision.basis != "given":
        largest = max(point.micro_batch_size for point in throughput.points)
        yield Caution.UNTIMED_END.say(size=largest)


def _warn_of_fall(decision: Decision, throughput: ThroughputConclusion) -> Iterator[str]:
    fall, size = throughput.fall, decision.way.micro_batch_size
    # Only a given batch may need a micro-batch beyond the fastest one.
    if (
        fall is not None
        and size > fall.peak_micro_batch_size
        and fall.slower_fraction.point is not None
    ):
        yield Caution.BEYOND_FASTEST.say(
            size=size,
            peak=fall.peak_micro_batch_size,
            slower=format_percent(fall.slower_fraction.point, decimals=0),
            last=fall.micro_batch_size,
        )


def _warn_of_rule(facts: WorkloadFacts, batch: int) -> Iterator[str]:
    """Yield what is missing to start from, a batch far from where the rate was tuned, or large."""
    optimizer, base, size = facts.optimizer, facts.base_batch_size, facts.dataset_size
    if optimizer is not None and optimizer.is_default:
        yield Caution.DEFAULT_OPTIMIZER.say()
    if optimizer is not None and base is None:
        yield Caution.NO_BASE_BATCH.say()
    if optimizer is not None and base is not None:
        ratio = batch / base
        if not 1.0 / MOST_TRUSTED_RATIO <= ratio <= MOST_TRUSTED_RATIO:
            yield Caution.FAR_FROM_BASE.say(ratio=format_figure(ratio))
    if size is not None and batch * LEAST_STEPS_PER_EPOCH > size:
        steps = count_of(-(-size // batch), "step")
        yield Caution.SHORT_EPOCHS.say(samples=size, steps=steps, batch=batch)


def _warn_of_no_trial(facts: WorkloadFacts, decision: Decision) -> Iterator[str]:
    race = decision.race
    if race.does_base_train is None or (race.does_base_train and not race.pairs):
        reason = race.reason or "the time did not suffice"
        yield Caution.NO_TRIAL.say(reason=reason, instruction=_instruct_untrained(facts, race))


def _instruct_untrained(facts: WorkloadFacts, race: Race) -> str:
    """Return what to do where no other pair was trained: more time only where that was short."""
    optimizer, script = facts.optimizer, facts.script
    if facts.is_step_only or (script is not None and script.why_untrained):
        return "Compare the loss at equal time before you change the batch"
    if not facts.has_dataset:
        return "Add make_dataset to the model file"
    if race.reason in {CUT_SHORT, UNTIMED}:
        return "What ended it is told with the answer"
    if race.base is None:
        if optimizer is None or optimizer.learning_rate is None:
            return "Compare the loss at equal time before you change the batch"
        return "Give the optimizer a rate that trains, or raise --budget"
    return "Raise --budget so that pairs can be trained"
