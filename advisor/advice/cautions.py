"""What weakens the advice: a fact for each, and what to do about it."""

from advisor.advice.candidates import LEAST_STEPS_PER_EPOCH
from advisor.advice.decide import Decision
from advisor.loader.advice import warn_of_loader
from advisor.loader.data import LoaderConclusion
from advisor.memory.data import MemoryConclusion
from advisor.noise.data import NoiseConclusion
from advisor.rate.conclude import SettledRate
from advisor.rate.rules import Caution, warn_of_learning_rate
from advisor.soak.advice import warn_of_soak
from advisor.soak.data import SoakConclusion
from advisor.throughput.data import ThroughputConclusion
from advisor.training.data import WorkloadFacts


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
    warnings = [
        *warn_of_soak(soak, decision.chosen.micro_batch_size),
        *warn_of_loader(loader),
        *_warn_of_measurements(decision, memory, throughput),
        *_warn_of_fall(decision, throughput),
        *_warn_of_noise(facts, noise),
        *_warn_of_dataset(facts, decision),
        *warn_of_learning_rate(
            facts.optimizer,
            base_batch_size=facts.base_batch_size,
            global_batch_size=decision.chosen.global_batch_size,
            noise=None if noise is None else noise.decisive,
        ),
        *_warn_of_trial(rate),
    ]
    return (
        *memory.disturbances,
        *(f"{each.fact}. {each.instruction}." for each in warnings),
    )


def _warn_of_measurements(
    decision: Decision, memory: MemoryConclusion, throughput: ThroughputConclusion
) -> list[Caution]:
    warnings = []
    saturation = throughput.saturation
    # A curve that still rises where the sizes end is known well enough.
    if saturation.status == "inconclusive" and saturation.needed_batch_size is None:
        warnings.append(
            Caution(
                fact="The sessions do not tell where larger batches stop being faster",
                instruction="Raise --budget and leave the machine idle meanwhile",
            )
        )
    size = decision.chosen.micro_batch_size
    if size not in {point.micro_batch_size for point in throughput.points}:
        warnings.append(
            Caution(
                fact=f"Micro-batch {size} was not timed itself: its step time lies on a straight "
                "line between its neighbours'",
                instruction=f"Give --global-batch-size {decision.chosen.global_batch_size} to "
                "time it",
            )
        )
    if not memory.verified:
        warnings.append(
            Caution(
                fact=f"Micro-batch {memory.max_micro_batch_size} ran, but it is not verified as "
                "the largest that does",
                instruction="Raise --budget for a longer search",
            )
        )
    if not decision.is_timed_to_the_end and decision.unrestricted is None:
        largest = max(each.micro_batch_size for each in decision.candidates)
        warnings.append(
            Caution(
                fact=f"Micro-batches above {largest} fit but were not timed",
                instruction="Raise --budget to time them",
            )
        )
    return warnings


def _warn_of_fall(decision: Decision, throughput: ThroughputConclusion) -> list[Caution]:
    """Warn of a micro-batch beyond the fastest one, as a given batch may need."""
    fall, chosen = throughput.fall, decision.chosen.micro_batch_size
    if fall is None or chosen <= fall.peak_micro_batch_size or fall.slower_fraction.point is None:
        return []
    peak = fall.peak_micro_batch_size
    return [
        Caution(
            fact=f"Micro-batch {chosen} lies beyond the fastest, {peak}: throughput falls from "
            f"there, by {100 * fall.slower_fraction.point:.0f} % at {fall.micro_batch_size}",
            instruction=f"Stay at or below {peak}",
        )
    ]


def _warn_of_noise(facts: WorkloadFacts, noise: NoiseConclusion | None) -> list[Caution]:
    if noise is not None and noise.status != "not_estimated":
        return []
    if not facts.has_dataset and not facts.is_step_only:
        instruction = "Add make_dataset to the model file"
    elif (
        facts.is_step_only or facts.loss_reduction == "coupled" or facts.has_synchronised_statistics
    ):
        instruction = "Compare the loss at equal samples before you keep a larger batch"
    else:
        instruction = "Raise --budget so that it can be measured"
    return [
        Caution(
            fact="Without a noise scale nothing tells how many more samples a larger batch needs",
            instruction=instruction,
        )
    ]


def _warn_of_dataset(facts: WorkloadFacts, decision: Decision) -> list[Caution]:
    size, chosen = facts.dataset_size, decision.chosen.global_batch_size
    if size is None or chosen * LEAST_STEPS_PER_EPOCH <= size:
        return []
    steps = -(-size // chosen)
    return [
        Caution(
            fact=f"An epoch of {size} samples has only {steps} step{'' if steps == 1 else 's'} at "
            f"batch {chosen}",
            instruction="Count schedule and warm-up in steps rather than epochs",
        )
    ]


def _warn_of_trial(rate: SettledRate) -> list[Caution]:
    if rate.refutation is not None:
        instruction = "Stay at the base batch, or tune the rate by hand"
        if rate.is_ranged:
            instruction = "Tune the rate by hand, from well below the rates tried"
        if rate.base_failed:
            instruction = "Check the base rate and the base batch size first"
        return [Caution(fact=f"The trial: {rate.refutation}", instruction=instruction)]
    if rate.is_too_short:
        return [
            Caution(
                fact="The trial ended before it could show whether a rate trains",
                instruction="Raise --budget so that every pair runs from all starts",
            )
        ]
    if rate.beats_base:
        return [
            Caution(
                fact="At equal samples the advised pair ended clearly below the base pair, so the "
                "base rate is probably too low",
                instruction="Raise the base rate in the model file and run the probe again",
            )
        ]
    return []
