"""The trials of a run -> who is surely faster than the base pair, and by how much."""

import math
from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from advisor.engine.record import Conclusions, Topic
from advisor.memory.plan import MEMORY
from advisor.noise.data import NEAR_OPTIMUM_FRACTION
from advisor.race.compare import Comparison, compare_all, spread
from advisor.race.data import UNTRAINED, BasePair, PairResult, Race, Standing
from advisor.race.law import LAW_DEVIATION, read_law
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.ways import WAYS, find_way
from advisor.rate.conclude import needs_range, settle_ranged_rate
from advisor.rate.curves import group_pairs, has_diverged, is_same
from advisor.rate.data import TRIALS, TrialBranch
from advisor.rate.range_data import LR_RANGES
from advisor.rate.rules import propose_learning_rate
from advisor.statistics import student_t_quantile, two_sided_t
from advisor.training.data import WorkloadFacts
from advisor.units import count_of

#: What befell a race, where the failure behind it is told by itself.
CUT_SHORT = "the trial was cut short"
UNTIMED = "the steps of your own loop were not timed"
#: Ratio that a pair must be below to be worth a change, and how sure that must be.
LEAST_GAIN_RATIO = 0.95
SURE = 0.9
#: Starts from which pairs are picked; the pick is judged by others, since the luckiest of many is
#: never as good as it looks.
STARTS = (0, 1, 2)
#: Those: from the first on, up to where the range test has its own.
FRESH = range(3, 1000)
#: Fewest of them that confirm.
LEAST_FRESH = 3
#: Standard error of the log of a ratio that no run sees of itself: what the benchmark of the advice
#: in the user's loop shows beyond the spread over starts and rounds.
UNSEEN_ERROR = 0.05
#: Joint draws of all pairs' times, for the regret of choosing one.
_DRAWS = 4000


def _conclude(conclusions: Conclusions) -> Race | None:
    """Return the race; None where the model file is not known."""
    record, facts = conclusions.record, conclusions.record.workload
    if facts is None:
        return None
    base = _find_base(conclusions)
    if base is None:
        return Race(reason=find_obstacle(facts)[0] or "no rate is known that trains")
    groups = group_pairs(record.all(TRIALS))
    key = next((key for key in groups if is_same(key, base.key)), None)
    if key is None:
        return Race(base=base, reason=_explain_untrained(conclusions, base))
    own = groups.pop(key)
    steps = max(branch.decays_from or branch.samples for branch in own) // base.global_batch_size
    failure = _find_failure(own)
    if failure:
        reason = f"at the base rate itself {failure}"
        return Race(base=base, does_base_train=False, reason=reason, base_steps=steps)
    seen = {
        (key, is_fresh): [branch for branch in branches if (branch.seed in FRESH) is is_fresh]
        for key, branches in sorted(groups.items())
        for is_fresh in (False, True)
    }
    found = compare_all(own, seen, picking=[(key, False) for key in groups])
    pairs = tuple(
        _judge(conclusions, base, branches, found.get((key, False)), found.get((key, True)))
        for key, branches in sorted(groups.items())
    )
    winner = choose_best([pair for pair in pairs if pair.standing == "confirmed"])
    return Race(base=base, does_base_train=True, base_steps=steps, pairs=pairs, winner=winner)


def _find_base(conclusions: Conclusions) -> BasePair | None:
    """Return the user's own pair; where its rate or batch is not known, that of the range test."""
    record, facts = conclusions.record, conclusions.record.workload
    if facts is None or facts.optimizer is None or not facts.has_dataset:
        return None
    if not needs_range(facts):
        size, rate = facts.base_batch_size, facts.optimizer.learning_rate
        return BasePair(global_batch_size=size, learning_rate=rate) if size and rate else None
    curves = record.all(LR_RANGES)
    if not curves:
        return None
    size = curves[-1].global_batch_size
    settled = settle_ranged_rate(facts, curves, record.all(TRIALS), size)
    if settled.value is None:
        return None
    return BasePair(global_batch_size=size, learning_rate=settled.value, is_own=False)


def anchor(facts: WorkloadFacts, base: BasePair) -> WorkloadFacts:
    """Return the facts with the pair that rules scale from, where that is not the user's own."""
    assert facts.optimizer is not None
    optimizer = replace(facts.optimizer, learning_rate=base.learning_rate)
    return replace(facts, optimizer=optimizer, base_batch_size=base.global_batch_size)


def find_obstacle(facts: WorkloadFacts) -> tuple[str, str]:
    """Return why no rate can be tried, and what to do then; both empty where one can."""
    compare = "Compare the loss at equal time before you change the batch"
    if facts.is_step_only:
        return "make_step takes the steps itself, so that no rate can be tried", compare
    if facts.script is not None and facts.script.why_untrained:
        return facts.script.why_untrained, compare
    if not facts.has_dataset:
        return "there is no make_dataset to train on", "Add make_dataset to the model file"
    if facts.optimizer is None or facts.optimizer.learning_rate is None:
        return "the optimizer has no learning rate", compare
    return "", ""


def _explain_untrained(conclusions: Conclusions, base: BasePair) -> str:
    """Return why nothing shows how the base pair trains."""
    record, ways = conclusions.record, conclusions.of(WAYS)
    if any(failure.stage == "trial" for failure in record.failures):
        return CUT_SHORT
    if not ways:
        return UNTIMED
    facts, size = record.workload, base.global_batch_size
    if facts is not None and facts.dataset_size is not None and size > facts.dataset_size:
        samples = count_of(facts.dataset_size, "sample")
        return f"batch {size} is more than the dataset has, {samples}"
    if find_way(ways, size) is None:
        memory = conclusions.of(MEMORY)
        if memory is not None and size <= (memory.max_micro_batch_size or 0):
            return f"batch {size} was not timed"
        return f"batch {size} does not fit and cannot be split"
    return record.get(UNTRAINED) or "your own pair was not trained before the run ended"


def _find_failure(branches: Sequence[TrialBranch]) -> str:
    """Return how training went wrong, empty where it did not."""
    count, what = sum(map(has_diverged, branches)), "training diverged"
    if not count:
        count, what = sum(branch.fall <= 0.0 for branch in branches), "the loss did not fall"
        # One start may begin with a lucky batch.
        is_noisy = any(branch.deviation for branch in branches)
        if is_noisy and math.fsum(branch.fall for branch in branches) > 0.0:
            count = 0
    return f"{what} in {count} of {len(branches)} runs" if count else ""


def _judge(
    conclusions: Conclusions,
    base: BasePair,
    branches: Sequence[TrialBranch],
    picked: Comparison | None,
    fresh: Comparison | None,
) -> PairResult:
    """Return what a pair showed beside the base pair, from the starts that pick and from others."""
    first = branches[0]
    result = PairResult(
        global_batch_size=first.global_batch_size,
        micro_batch_size=first.micro_batch_size,
        gradient_accumulation_steps=first.gradient_accumulation_steps,
        learning_rate=first.learning_rate,
        standing="too_short",
        beta2=first.beta2,
        weight_decay=first.weight_decay,
        reason="it was not trained for long enough to be compared",
    )
    failure = _find_failure(branches)
    if failure:
        return replace(result, standing="failed", reason=failure)
    ways, times = conclusions.of(WAYS), conclusions.of(LOOP_TIMES)
    way, own = find_way(ways, first.global_batch_size), find_way(ways, base.global_batch_size)
    is_fresh = fresh is not None and fresh.starts >= LEAST_FRESH
    seen = fresh if is_fresh else picked
    if way is None:
        return replace(result, reason="it cannot be made of micro-batches that fit")
    if seen is None or own is None or times is None:
        return result
    level = seen.log_ratio + math.log(way.sample_s / own.sample_s)
    quantile, own_error = two_sided_t(0.95, seen.degrees), math.hypot(seen.error, UNSEEN_ERROR)
    error = math.hypot(own_error, times.estimate_error(way.split, own.split))
    law, facts = read_law(conclusions), conclusions.record.workload
    if law.noise_scale is not None and facts is not None:  # combined by precision
        rule = propose_learning_rate(anchor(facts, base), way.global_batch_size, law.noise)
        over_rule = first.learning_rate / rule.proposed if rule.proposed else 1.0
        prior = law.predict_log_ratio(way, own, rate_over_rule=over_rule)
        weight = error**2 / (error**2 + LAW_DEVIATION**2)
        level, error = level + weight * (prior - level), error * math.sqrt(1.0 - weight)
    end = None if seen.end_log_ratio is None else level + seen.end_log_ratio - seen.log_ratio
    most = level + student_t_quantile(SURE, seen.degrees) * error
    is_sure = most <= math.log(LEAST_GAIN_RATIO) and level + quantile * error < 0.0
    standing: Standing = "confirmed" if is_fresh and is_sure else "ahead"
    is_open, reason = level - error < math.log(LEAST_GAIN_RATIO), ""
    if end is not None and end > 0.0:
        is_open = False
        reason = f"where the rate falls in the end it took {math.exp(end):.2f} × the time"
    return replace(
        result,
        standing=standing if is_open else "behind",
        reason=reason,
        end_time_ratio=None if end is None else math.exp(end),
        time_ratio=spread(level, quantile * error),
        sample_ratio=spread(seen.log_ratio, quantile * own_error),
        log_ratio=level,
        error=error,
        degrees_of_freedom=seen.degrees,
        starts=0 if picked is None else picked.starts,
        fresh_starts=0 if fresh is None else fresh.starts,
    )


def rank_by_regret(pairs: Sequence[PairResult]) -> list[PairResult]:
    """Return the pairs to choose in turn: the smallest whose expected regret is about the least.

    ρ = E[T/min T − 1] over joint draws of all pairs' times, the base pair's among them; of those
    within 5 % of the least ρ the smallest batch comes first, and the lowest rate; then the others.
    """
    known = [pair for pair in pairs if pair.log_ratio is not None]
    if not known:
        return []
    figures = [
        (each.log_ratio, each.error or 0.0, each.degrees_of_freedom or 1.0) for each in known
    ]
    levels, errors, degrees = np.array(figures).T[:, :, None]
    draws = np.random.default_rng(0).standard_t(degrees, (len(known), _DRAWS))
    # A start or two leave tails that decide nothing.
    times = np.exp(np.clip(levels + errors * draws, -5.0, 5.0))
    regrets = (times / np.minimum(times.min(axis=0), 1.0)).mean(axis=1) - 1.0
    ranks = np.where(regrets <= regrets.min() + NEAR_OPTIMUM_FRACTION, 0.0, regrets).tolist()
    order = sorted(zip(ranks, known, strict=True), key=lambda one: (one[0], *one[1].key))
    return [pair for _, pair in order]


def choose_best(pairs: Sequence[PairResult], size: int | None = None) -> PairResult | None:
    """Return the pair to choose, of one batch where that is given; None where none is known."""
    own = [pair for pair in pairs if size in {None, pair.global_batch_size}]
    return next(iter(rank_by_regret(own)), None)


RACE = Topic("race", Race, _conclude)
