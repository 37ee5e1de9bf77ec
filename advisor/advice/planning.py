"""What follows from the advice beyond one device and one batch: time against cost, schedules."""

from collections.abc import Sequence

import msgspec

from advisor.advice.candidates import Candidate
from advisor.advice.data import Frontier, Recommendation, Scenario, Schedule, ScheduleItem
from advisor.advice.decay_swap import conclude_decay_swap
from advisor.advice.frontier import conclude_frontier
from advisor.advice.frontier_notes import write_notes
from advisor.advice.schedule import Pair, conclude_schedule
from advisor.engine.run_record import RunRecord
from advisor.noise.data import NoiseConclusion, get_working_noise_scale


def plan_frontier(
    record: RunRecord, noise: NoiseConclusion | None, advice: Recommendation | None
) -> Frontier | None:
    """Return time against cost; None where no size was timed."""
    if record.workload is None or advice is None:
        return None
    scenario, facts = (record.scenario or Scenario()), record.workload
    frontier = conclude_frontier(
        _get_candidates(advice),
        None if noise is None else noise.working,
        scenario=scenario,
        facts=facts,
    )
    return msgspec.structs.replace(frontier, notes=tuple(write_notes(scenario, facts, frontier)))


def plan_schedules(
    record: RunRecord, noise: NoiseConclusion | None, advice: Recommendation | None
) -> tuple[Schedule, ...]:
    """Return the schedules considered: by the noise scale, then in place of the user's own."""
    facts = record.workload
    if facts is None or advice is None:
        return ()
    candidates, advised = _get_candidates(advice), _pair(record, advice)
    by_noise = None
    steps = {each.step_source for each in record.noise_batches}
    # Checkpoints without a step are places in a list: nothing tells how far apart they lie.
    if noise is not None and noise.working is not None and steps <= {"steps"}:
        by_noise = conclude_schedule(candidates, noise, advised)
    swap = conclude_decay_swap(
        candidates,
        advised,
        scenario=(record.scenario or Scenario()),
        facts=facts,
        largest_noise_scale=_find_largest(noise),
    )
    return tuple(each for each in (by_noise, swap) if each is not None)


def choose_schedule(schedules: Sequence[Schedule]) -> tuple[ScheduleItem, ...]:
    """Return the items to follow: the swap that the user asked for before that by the noise."""
    return next((each.items for each in reversed(schedules) if each.items), ())


def _get_candidates(advice: Recommendation) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            micro_batch_size=each.micro_batch_size,
            gradient_accumulation_steps=each.gradient_accumulation_steps,
            step_s=each.step_s,
        )
        for each in advice.candidates
    )


def _pair(record: RunRecord, advice: Recommendation) -> Pair:
    facts = record.workload
    assert facts is not None
    return Pair(
        global_batch_size=advice.global_batch_size,
        learning_rate=advice.learning_rate.value,
        optimizer=facts.optimizer,
        loss_is_sum=facts.loss_reduction == "sum",
    )


def _find_largest(noise: NoiseConclusion | None) -> float | None:
    """Return the largest φ along the trajectory, in the metric that the advice follows."""
    if noise is None:
        return None
    scales = [get_working_noise_scale(scale) for _, scale in noise.course]
    return max((scale for scale in scales if scale is not None), default=None)
