"""The conclusions of a run -> its one recommendation, and what follows beyond one batch."""

from msgspec.structs import replace

from advisor.advice.cautions import list_deciding, list_minor
from advisor.advice.data import SCENARIO, Expected, Frontier, Recommendation, Scenario
from advisor.advice.decide import Decision, decide
from advisor.advice.frontier import conclude_frontier
from advisor.advice.reasons import write_reasons
from advisor.advice.snippet import set_up
from advisor.engine.record import Conclusions, Topic
from advisor.loader.plan import LOADER
from advisor.noise.plan import NOISE
from advisor.race.compare import spread
from advisor.race.law import LAW_DEVIATION, read_law
from advisor.race.plan import anchor
from advisor.race.ways import WAYS, find_way
from advisor.rate.conclude import needs_range, settle_ranged_rate
from advisor.rate.data import TRIALS, Candidate, LearningRate, OptimizerChanges
from advisor.rate.range_data import LR_RANGES
from advisor.rate.rules import propose_learning_rate, propose_optimizer_changes
from advisor.soak.plan import SOAK
from advisor.statistics import NORMAL_QUANTILE


def _conclude(conclusions: Conclusions) -> Recommendation | None:
    """Return the recommendation; None where the user's own batch was not measured."""
    decision = decide(conclusions)
    if decision is None:
        return None
    facts, way, base, law = decision.facts, decision.way, decision.race.base, decision.law
    size, loader, result = way.global_batch_size, conclusions.of(LOADER), decision.result
    rate, changes = _settle_rate(conclusions, decision), OptimizerChanges()
    if result is not None and base is not None:
        changes = propose_optimizer_changes(facts.optimizer, base.key, result.key)
        changes = replace(changes, beta2=result.beta2, weight_decay=result.weight_decay)
    own = find_way(decision.ways, facts.base_batch_size if base is None else base.global_batch_size)
    workers = None if loader is None else loader.advised_workers
    ranks = 1 if facts.script is None else facts.script.script.ranks  # that spread its steps
    is_change = (
        decision.basis not in {"stay", "untried"}
        or way.gradient_accumulation_steps > 1
        or (loader is not None and workers not in {None, loader.own_workers})
    )
    settings, snippet = set_up(way, facts, rate.value, changes, workers=workers)
    cautions = tuple(list_deciding(decision, conclusions.of(SOAK), loader))
    return Recommendation(
        basis=decision.basis,
        micro_batch_size=way.micro_batch_size // facts.parts,
        gradient_accumulation_steps=way.gradient_accumulation_steps * facts.parts // ranks,
        data_parallel_size=ranks,
        global_batch_size=size,
        interval=decision.interval,
        learning_rate=rate,
        optimizer_changes=changes,
        limiting_factor=decision.limiting_factor,
        expected=_expect(decision, own),
        reasons=tuple(write_reasons(decision, conclusions.of(NOISE))),
        warnings=(*cautions, *list_minor(decision)),
        cautions=cautions,
        candidates=law.tabulate(decision.ways, own),
        settings=settings,
        snippet=snippet if is_change else "",
    )


def _settle_rate(conclusions: Conclusions, decision: Decision) -> LearningRate:
    """Return the advised rate beside the rule's."""
    record, facts, race = conclusions.record, decision.facts, decision.race
    size, noise = decision.way.global_batch_size, decision.law.noise
    value, result = decision.learning_rate, decision.result
    rate = propose_learning_rate(facts, size, noise)
    if race.base is not None and race.base.is_own:
        reason = race.reason or rate.reason
        if result is not None:
            reason = f"trained from {result.starts + result.fresh_starts} starts beside your pair"
        elif value is not None and race.does_base_train and race.pairs:
            reason = "your own, from which nothing else was surely faster"
        elif value is not None and race.does_base_train:
            reason = "your own; no other was trained"
        return rate.settle(value, reason)
    batch = size if race.base is None else race.base.global_batch_size
    ranged = settle_ranged_rate(facts, record.all(LR_RANGES), record.all(TRIALS), batch)
    if race.base is not None:
        rule = propose_learning_rate(anchor(facts, race.base), size, noise)
        return replace(ranged, value=value, proposed=rule.proposed)
    if value is None and needs_range(facts) and facts.has_dataset:
        return ranged
    return replace(rate, value=value, reason=race.reason)


def _expect(decision: Decision, base: Candidate | None) -> Expected:
    """Return what was measured of the advised pair, or the law's word where it was not trained."""
    result, law = decision.result, decision.law
    if result is not None and result.time_ratio is not None:
        ratio = result.time_ratio
        return Expected(time_ratio=ratio, cost_ratio=ratio, is_measured=True)
    if base is None or law.noise_scale is None or decision.way == base:
        return Expected()
    log = law.predict_log_ratio(decision.way, base)
    ratio = spread(log, NORMAL_QUANTILE * LAW_DEVIATION)
    return Expected(time_ratio=ratio, cost_ratio=ratio)


def find_advised_way(conclusions: Conclusions) -> Candidate | None:
    """Return how the advised batch is made; None where none is advised."""
    advice = conclusions.of(ADVICE)
    size = None if advice is None else advice.global_batch_size
    return find_way(conclusions.of(WAYS), size)


def _conclude_frontier(conclusions: Conclusions) -> Frontier | None:
    """Return time against cost; None where no size was timed."""
    facts, advice = conclusions.record.workload, conclusions.of(ADVICE)
    if facts is None or advice is None:
        return None
    scenario = conclusions.record.get(SCENARIO) or Scenario()
    scale = read_law(conclusions).noise_scale
    return conclude_frontier(advice.candidates, scale, scenario=scenario, facts=facts)


ADVICE = Topic("recommendation", Recommendation, _conclude)
FRONTIER = Topic("frontier", Frontier, _conclude_frontier)
