"""How a command's time is shared out: what each stage needs of it, and what it gets.

A part `_OF_LEFT` is one of what is left when the stage begins, so that what one stage saves goes to
those after it; any other is one of that stage's own time.
"""

from collections.abc import Collection
from typing import NamedTuple

import msgspec
import numpy as np

from advisor.engine.record import Slot
from advisor.figures import Duration


class Need(NamedTuple):
    """What a stage takes of any model."""

    #: Starts of a worker, each with the import of the model file and its data.
    starts: float
    #: Steps of the user's own batch, or what takes as long.
    steps: float
    #: Seconds besides, however fast the model is.
    other_s: float
    #: However slow it is.
    most_s: float


#: By stage, in the order in which they run.
NEEDS = {
    "memory": Need(5, 120, 1.0, 300.0),  # some five sizes, three steps each, up to the limit
    "throughput": Need(4, 300, 8.0, 480.0),  # three sessions: without them nothing has an interval
    "noise": Need(1, 800, 1.0, 300.0),
    "sharpness": Need(1, 3000, 3.0, 300.0),  # where it is asked for
    "loader": Need(2, 400, 3.5, 60.0),
    "trial": Need(20, 6000, 8.0, 900.0),  # it decides what is advised
    "soak": Need(1, 120, 0.5, 60.0),
    "memory savings": Need(4, 0, 1.0, 60.0),
}
#: Of the user's own script, where each size and each branch is a start of its own.
_NEEDS_OF_SCRIPT = {
    "throughput": Need(18, 300, 8.0, 480.0),
    "trial": Need(45, 6000, 8.0, 900.0),
    "ranks": Need(12, 600, 4.0, 120.0),  # where it has several; after all others
}
#: What a command without a budget may take until there is a plan, and then.
UNPLANNED_S, LONGEST_S = 300.0, 1800.0
#: What it takes where a model needs longer, if that is enough.
PATIENCE_S = 120.0
#: With which a stage tells what the advice rests on, and no more: two sessions, since one has no
#: interval; a race of the base pair, one pick, and both from new starts, in branches of 33 steps.
_ENOUGH = {
    "memory": Need(4, 60, 0.5, 120.0),
    "throughput": Need(2, 100, 1.0, 120.0),
    "noise": Need(1, 200, 0.5, 120.0),
    "sharpness": Need(1, 1000, 1.0, 120.0),
    "loader": Need(1, 100, 0.5, 40.0),
    "trial": Need(5.5, 945, 0.5, LONGEST_S),
    "soak": Need(1, 60, 0.5, 40.0),
    "memory savings": Need(1, 0, 0.5, 40.0),
}
_ENOUGH_OF_SCRIPT = {
    "throughput": Need(8, 100, 1.0, 120.0),
    "trial": Need(22, 945, 0.5, LONGEST_S),
    "ranks": Need(4, 200, 2.0, 60.0),
}
#: Left out, in this order, of a budget that holds less than this share of what is needed: the
#: advice stands without them.
_OPTIONAL, _SHORT_FRACTION = ("memory savings", "ranks", "soak"), 2 / 3
#: Left out after these, in this order, of one that holds not even the least of each: what gets less
#: tells nothing, and without the speed at the user's own batch there is no answer at all.
_DISPENSABLE = ("sharpness", "trial", "loader", "noise", "memory")
#: Of these, what is left out as well where the others would not have enough: without the speed of
#: the loop and the noise a race shows nothing that could be advised.
_LAST = {"sharpness", "trial"}
#: What no stage is worth beginning without; and the steps of a race, in branches of 30 each.
_LEAST, _LEAST_OF_RACE = Need(1, 10, 0.5, 60.0), 860
#: Of a worker, from which on its start is told, since it makes the plan long.
_TOLD_START_S = 5.0


def list_before(first: str | None) -> list[str]:
    """Return the stages that run before this one; none before None."""
    stages = list(NEEDS | _NEEDS_OF_SCRIPT)
    return stages[: 0 if first is None else stages.index(first)]


class TimePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a command takes of this model, and what it may take."""

    #: Until a worker has the model and a batch; of a step of the user's own batch.
    start_s: Duration
    step_s: Duration
    #: By stage: what it needs, and what it gets where it is not left out.
    needs_s: dict[str, Duration]
    shares_s: dict[str, Duration]
    #: With what had passed when the plan was made.
    needed_s: Duration
    budget_s: Duration
    #: The same with just enough for an advice: two sessions, a race of short branches.
    enough_s: Duration = 0.0


TIME_PLAN = Slot("time_plan", TimePlan)


class Needs(NamedTuple):
    """What stages need of one model, in seconds: in full, just enough, and the least."""

    stages: dict[str, float]
    enough: dict[str, float]
    least: dict[str, float]

    @property
    def enough_s(self) -> float:
        """Seconds that are enough for all that the advice stands on."""
        return sum(each for stage, each in self.enough.items() if stage not in _OPTIONAL)

    def share_out(self, left_s: float, *, first: str | None = None) -> dict[str, float]:
        """Return the seconds of each stage from the first on, those left out not among them.

        Where time is short each gets the least, then in proportion what is enough, then in full.
        """
        left_s, done = max(0.0, left_s), list_before(first)
        kept = [stage for stage in self.stages if stage not in done]
        for stage in _OPTIONAL:
            short_s = _SHORT_FRACTION * sum(self.stages[each] for each in kept)
            if left_s < short_s and stage in kept:
                kept.remove(stage)
        for stage in _DISPENSABLE:
            before = set(kept) - _LAST if stage in _LAST else set[str]()
            worth_s = sum((self.enough if each in before else self.least)[each] for each in kept)
            if stage in kept and len(kept) > 1 and left_s < worth_s:
                kept.remove(stage)
        levels = (dict.fromkeys(kept, 0.0), self.least, self.enough, self.stages)
        sums_s = [sum(level[stage] for stage in kept) for level in levels]
        shares_s = {
            stage: np.interp(left_s, sums_s, [level[stage] for level in levels]) for stage in kept
        }
        return {stage: float(s * max(1.0, left_s / sums_s[-1])) for stage, s in shares_s.items()}


def estimate_needs(
    start_s: float, step_s: float, *, without: Collection[str] = (), is_script: bool = False
) -> Needs:
    """Return what the stages need where a worker's start and a step take so long."""

    def count(need: Need) -> float:
        return min(need.most_s, need.starts * start_s + need.steps * step_s + need.other_s)

    def choose(needs: dict[str, Need], of_script: dict[str, Need]) -> dict[str, Need]:
        chosen = needs | of_script if is_script else needs
        return {stage: need for stage, need in chosen.items() if stage not in without}

    full, enough = choose(NEEDS, _NEEDS_OF_SCRIPT), choose(_ENOUGH, _ENOUGH_OF_SCRIPT)
    enough_s = {stage: count(need) for stage, need in enough.items()}
    least_s = {stage: min(each_s, count(_LEAST)) for stage, each_s in enough_s.items()}
    if "trial" in enough:
        least_s["trial"] = count(enough["trial"]._replace(steps=_LEAST_OF_RACE, other_s=0.0))
    stages = {stage: max(count(need), enough_s[stage]) for stage, need in full.items()}
    return Needs(stages, enough_s, least_s)


def describe_plan(plan: TimePlan) -> str:
    """Return the length of the command and of its stages, and what a short budget leaves out."""
    short = f", short of the {_round(plan.needed_s)} that this model takes"
    start = f"each start takes {_round(plan.start_s)}, so "
    head = start * (plan.start_s >= _TOLD_START_S) + f"about {_round(plan.budget_s)}"
    head += short * (plan.budget_s < plan.needed_s)
    stages = ", ".join(f"{stage} {_round(share_s)}" for stage, share_s in plan.shares_s.items())
    left_out = [stage for stage in plan.needs_s if stage not in plan.shares_s]
    text = f"{head}: {stages}" + (f"; left out: {', '.join(left_out)}" if left_out else "")
    if "trial" in left_out:
        text += f"; {_round(plan.enough_s)} would train other pairs"
    return text


def _round(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100.0 else f"{seconds / 60.0:.2g} min"


#: One probe of the memory search; and of the time that all stages left.
PROBE_OF_MEMORY, PROBE_OF_LEFT = 1 / 3, 0.8
#: The trace that guides the search: without it that needs a few probes more.
TRACE_OF_MEMORY = 1 / 3
#: Compiling for the sessions: the rest times what was compiled.
COMPILING_OF_THROUGHPUT = 0.5
#: Training steps between the points; the rest measures.
TRAINING_OF_NOISE = 0.4
#: At least this for the loader's timing: its steps take as long as loading does, which no plan
#: knows; and when it is given up.
LOADER_OF_LEFT = 0.14
LOADER_END_OF_LEFT = 0.5
#: When the noise or the sharpness is given up: those after it have the rest.
NOISE_END_OF_LEFT = 0.5
#: Evaluations among the trial's steps.
EVALUATION_OF_TRIAL = 0.2
#: The range test; its trial takes about as long, and the rest is for what comes on top of both.
RANGE_OF_LEFT, TRIAL_OF_LEFT = 0.45, 0.85

#: Each further variant is promised this, all together at most that: the recommendation, which is
#: for the first, keeps at least the rest.
VARIANT_OF_BUDGET, VARIANTS_OF_BUDGET = 0.2, 0.5
#: The loss runs, where there is data for them.
LOSSES_OF_VARIANTS = 0.3

#: What the plan of `verify` may fill: workers' starts come on top.
VERIFY_OF_BUDGET = 0.85
#: The trunk, or the steps that fill the optimizer's state: the branches are what tells.
TRUNK_OF_BUDGET = 0.2
