"""How often the trial refuses a pair that is known to train, by drawing its starts again and again.

One pair of batch and rate is trained once from each of many starts. Three starts make a trial, so
that all their triples show what chance does to its verdict. The pair is judged against itself with
the samples in another order, and against the next lower rate of a ladder of factors sqrt 2 in both
directions, as the trial does it: same starts, same order of the samples.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from advisor.engine.worker.entry import seed_everything
from advisor.rate.data import TrialBranch, TrialTask
from advisor.rate.measure import follow_branch
from advisor.rate.verdict import LEAST_SEEDS, judge_trial
from advisor.training.data import WorkloadSpec
from advisor.training.model_file.workload import Workload

#: Starts, none of which the tool's own trial uses.
STARTS = tuple(range(500, 524))
#: Added to a start for another order of its samples.
OTHER_ORDER = 10_000
#: Lengths of the trial in optimizer steps.
LENGTHS = (20, 50, 100)
#: Evaluations along a branch that the trial aims at.
EVALUATIONS = 20
RATE_STEP = math.sqrt(2.0)
RESAMPLES, CONFIDENCE = 2000, 0.95

Branches = Mapping[int, TrialBranch]
#: One refused flag for each triple, for each case and length.
Refusals = dict[tuple[str, int], np.ndarray]


def study_refusals(workload: WorkloadSpec, batch_size: int, rate: float) -> Refusals:
    """Return which triples of starts make the trial refuse, for each comparison and length."""
    best = train_branches(workload, batch_size, rate)
    again = train_branches(workload, batch_size, rate, order=OTHER_ORDER)
    lower = train_branches(workload, batch_size, rate / RATE_STEP)
    cases = {
        "itself, other order": (best, again),
        "lower rate tried": (best, lower),
        "lower rate is the base": (lower, best),
    }
    return {
        (name, steps): judge_triples(cut(base, steps), cut(tried, steps))
        for name, (base, tried) in cases.items()
        for steps in LENGTHS
    }


def train_branches(
    workload: WorkloadSpec, batch_size: int, rate: float, *, order: int = 0
) -> Branches:
    """Return the longest branch from each start, evaluated after every step."""
    loaded = Workload(workload)
    steps = max(LENGTHS)
    task = TrialTask(
        workload=workload,
        micro_batch_size=batch_size,
        gradient_accumulation_steps=1,
        learning_rate=rate,
        samples=steps * batch_size,
        evaluations=steps,
        seeds=(),
    )
    branches = {}
    for start in STARTS:
        seed_everything(start)
        branch = follow_branch(loaded, loaded.make_training(), task, start + order)
        branches[start] = msgspec.structs.replace(branch, seed=start)
    return branches


def cut(branches: Branches, steps: int) -> Branches:
    """Return the branches as a trial of so many steps would have left them."""
    every = max(1, steps // EVALUATIONS)
    shorter = {}
    for start, branch in branches.items():
        places = [*range(0, steps, every), steps]
        kept = [branch.evaluations[at] for at in places if at < len(branch.evaluations)]
        shorter[start] = msgspec.structs.replace(
            branch,
            samples=steps * branch.global_batch_size,
            evaluations=tuple(kept),
            diverged=branch.diverged and len(kept) < len(places),
        )
    return shorter


def judge_triples(base: Branches, tried: Branches) -> np.ndarray:
    """Return for each triple of starts whether the trial refuses the tried pair."""
    refused = []
    for triple in list_triples():
        starts = [STARTS[place] for place in triple]
        verdict = judge_trial([base[s] for s in starts], [tried[s] for s in starts], None)
        refused.append(not verdict.passed)
    return np.array(refused)


def list_triples() -> list[tuple[int, ...]]:
    """Return all triples of places in the starts."""
    return list(itertools.combinations(range(len(STARTS)), LEAST_SEEDS))


def summarise_refusals(tasks: Sequence[Refusals]) -> list[dict[str, Any]]:
    """Return the share of refusals over all tasks with its interval, by comparison and length.

    The interval is that of the mean over tasks when the starts are drawn again (bootstrap of the
    starts, which the triples share). Where no triple was refused its upper end is the share at
    which the triples without a start in common would all have passed in one of 20 cases.
    """
    return [
        {
            "compared_with": name,
            "steps": steps,
            **_estimate([refusals[name, steps] for refusals in tasks]),
        }
        for name, steps in tasks[0]
    ]


def _estimate(refused: Sequence[np.ndarray]) -> dict[str, float]:
    share = float(np.mean([each.mean() for each in refused]))
    disjoint = len(refused) * (len(STARTS) // LEAST_SEEDS)
    unseen = 1.0 - (1.0 - CONFIDENCE) ** (1.0 / disjoint)
    triples = np.array(list_triples())
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(RESAMPLES):
        shares = []
        for each in refused:
            counts = np.bincount(
                generator.integers(len(STARTS), size=len(STARTS)), minlength=len(STARTS)
            )
            weights = counts[triples].prod(axis=1)
            shares.append(float((weights * each).sum() / weights.sum()))
        draws.append(float(np.mean(shares)))
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = (float(np.quantile(draws, part)) for part in (tail, 1.0 - tail))
    if share == 0.0:
        high = unseen
    if share == 1.0:
        low = 1.0 - unseen
    return {"refused_fraction": share, "low": low, "high": high}
