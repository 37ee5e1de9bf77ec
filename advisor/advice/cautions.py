"""What weakens the advice, each fact with what to do about it."""

from collections.abc import Iterator
from enum import Enum

from advisor.advice.candidates import LEAST_STEPS_PER_EPOCH
from advisor.advice.decide import Decision
from advisor.loader.data import LoaderConclusion
from advisor.memory.data import MemoryConclusion
from advisor.noise.data import NoiseConclusion, get_working_noise_scale
from advisor.rate.conclude import SettledRate
from advisor.rate.rules import name_family
from advisor.soak.data import SoakConclusion
from advisor.statistics import Estimate
from advisor.throughput.data import ThroughputConclusion
from advisor.training.data import WorkloadFacts
from advisor.units import count_of, format_figure, format_percent, render_bytes

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
    GROWING_MEMORY = (
        "Memory grows by {growth} with each step{full}. Check what is kept from step to step, such "
        "as losses or outputs appended to a list: append loss.item() or .detach() them."
    )
    LARGE_EVALUATION = (
        "Evaluating micro-batch {size} takes {evaluation}, more than the {training} of training. "
        "Set a smaller batch for evaluation."
    )
    SLOW_LOADER = (
        "The loader is the limit: with {workers} training runs at {together} samples/s, without "
        "waiting for data at {alone}. {instruction}."
    )
    UNKNOWN_SATURATION = (
        "The sessions do not tell where larger batches stop being faster. Raise --budget and leave "
        "the machine idle meanwhile."
    )
    INTERPOLATED = (
        "Micro-batch {size} was not timed itself: its step time lies on a straight line between "
        "its neighbours'. Give --global-batch-size {batch} to time it."
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
    NO_NOISE_SCALE = (
        "Without a noise scale nothing tells how many more samples a larger batch needs. "
        "{instruction}."
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
    NOISE_BOUND = (
        "Of the noise scale only a lower bound is known, so the rate may be too low. Raise "
        "--budget or --noise-steps for a closer one."
    )
    ABOVE_NOISE_SCALE = (
        "The batch is above the noise scale of {scale} samples, where a larger rate no longer "
        "follows from a larger batch. Compare the loss with a lower rate before a long run."
    )
    FAR_FROM_BASE = (
        "The batch is {ratio} times the one that the rate was tuned for, further than the rules "
        "were tested. Tune the rate again around the advised one."
    )
    REFUTED_RATE = "The trial: {refutation}. {instruction}."
    SHORT_TRIAL = (
        "The trial ended before it could show whether a rate trains. Raise --budget so that every "
        "pair runs from all starts."
    )
    LOW_BASE_RATE = (
        "At equal samples the advised pair ended clearly below the base pair, so the base rate is "
        "probably too low. Raise the base rate in the model file and run the probe again."
    )

    def say(self, **figures: object) -> str:
        """Return the sentences with these figures in them."""
        return self.value.format(**figures)


def write_cautions(
    facts: WorkloadFacts,
    decision: Decision,
    memory: MemoryConclusion,
    throughput: ThroughputConclusion,
    noise: NoiseConclusion | None,
    rate: SettledRate,
    soak: SoakConclusion | None = None,
    loader: LoaderConclusion | None = None,
) -> tuple[str, ...]:
    """Return the warnings, each a sentence on a fact and one that says what to do."""
    decisive = None if noise is None else noise.decisive
    return (
        *memory.disturbances,
        *_warn_of_soak(soak, decision.chosen.micro_batch_size),
        *_warn_of_loader(loader),
        *_warn_of_measurements(decision, memory, throughput),
        *_warn_of_noise(facts, noise),
        *_warn_of_dataset(facts, decision),
        *warn_of_rule(facts, decision.chosen.global_batch_size, decisive),
        *_warn_of_trial(rate),
    )


def _warn_of_soak(soak: SoakConclusion | None, micro_batch_size: int) -> Iterator[str]:
    if soak is None:
        return
    if soak.failed:
        *others, last = (str(size) for size in soak.failed)
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
        together=format_figure(together),
        alone=format_figure(alone),
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
            f"at {format_figure(point.together_samples_per_s.point)} samples/s"
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
    chosen, saturation, fall = decision.chosen, throughput.saturation, throughput.fall
    size = chosen.micro_batch_size
    # A curve that still rises where the sizes end is known well enough.
    if saturation.status == "inconclusive" and saturation.needed_batch_size is None:
        yield Caution.UNKNOWN_SATURATION.say()
    if size not in {point.micro_batch_size for point in throughput.points}:
        yield Caution.INTERPOLATED.say(size=size, batch=chosen.global_batch_size)
    if not memory.verified:
        yield Caution.UNVERIFIED_MEMORY.say(size=memory.max_micro_batch_size)
    if not decision.is_timed_to_the_end and decision.unrestricted is None:
        largest = max(each.micro_batch_size for each in decision.candidates)
        yield Caution.UNTIMED_END.say(size=largest)
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


def _warn_of_noise(facts: WorkloadFacts, noise: NoiseConclusion | None) -> Iterator[str]:
    if noise is not None and noise.status != "not_estimated":
        return
    instruction = "Raise --budget so that it can be measured"
    if not facts.has_dataset and not facts.is_step_only:
        instruction = "Add make_dataset to the model file"
    elif (
        facts.is_step_only or facts.loss_reduction == "coupled" or facts.has_synchronised_statistics
    ):
        instruction = "Compare the loss at equal samples before you keep a larger batch"
    yield Caution.NO_NOISE_SCALE.say(instruction=instruction)


def _warn_of_dataset(facts: WorkloadFacts, decision: Decision) -> Iterator[str]:
    size, batch = facts.dataset_size, decision.chosen.global_batch_size
    if size is not None and batch * LEAST_STEPS_PER_EPOCH > size:
        steps = count_of(-(-size // batch), "step")
        yield Caution.SHORT_EPOCHS.say(samples=size, steps=steps, batch=batch)


def warn_of_rule(
    facts: WorkloadFacts, global_batch_size: int, noise_scale: Estimate | None
) -> Iterator[str]:
    """Yield what weakens the rule of the rate for this optimizer, batch and noise scale.

    Source: McCandlish et al. 2018, arXiv:1812.06162, and Malladi et al. 2022, arXiv:2205.10287, for
    the rules' range.
    """
    optimizer, base = facts.optimizer, facts.base_batch_size
    if optimizer is None:
        return
    if optimizer.is_default:
        yield Caution.DEFAULT_OPTIMIZER.say()
    if base is None:
        yield Caution.NO_BASE_BATCH.say()
    if base is None or base == global_batch_size or name_family(optimizer) is None:
        return
    working, ratio = get_working_noise_scale(noise_scale), global_batch_size / base
    if working is not None and noise_scale is not None and noise_scale.high is None:
        yield Caution.NOISE_BOUND.say()
    if working is not None and global_batch_size > working:
        yield Caution.ABOVE_NOISE_SCALE.say(scale=format_figure(working))
    if not 1.0 / MOST_TRUSTED_RATIO <= ratio <= MOST_TRUSTED_RATIO:
        yield Caution.FAR_FROM_BASE.say(ratio=format_figure(ratio))


def _warn_of_trial(rate: SettledRate) -> Iterator[str]:
    if rate.refutation is not None:
        instruction = "Stay at the base batch, or tune the rate by hand"
        if rate.is_ranged:
            instruction = "Tune the rate by hand, from well below the rates tried"
        if rate.base_failed:
            instruction = "Check the base rate and the base batch size first"
        yield Caution.REFUTED_RATE.say(refutation=rate.refutation, instruction=instruction)
    elif rate.is_too_short:
        yield Caution.SHORT_TRIAL.say()
    elif rate.beats_base:
        yield Caution.LOW_BASE_RATE.say()
