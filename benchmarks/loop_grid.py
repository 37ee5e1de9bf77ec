"""The tuned grid: for each batch the fewest steps to the base pair's loss, over rates.

A base pair is the task's batch with a rate: tuned, the one of a ladder whose loss is lowest at the
end; a quarter of that; or the task's own. What a batch takes does not depend on the loop.
"""

import functools
import math
from typing import Any

import numpy as np
from loop_stack import train_curves, train_ends
from loop_trainings import BEYOND, Pair, load, read_length

#: None that the tool's own trial uses, and none of those that judge its advice.
SEEDS = (200, 201, 202)
#: Steps of the base pair at a constant rate, where the tool is not told how long the user trains.
CONSTANT_STEPS = 400
#: Steps of the base pair under warm-up and cosine, which the tool is told.
SCHEDULED_STEPS = {
    "char_lm": 600,
    "digits": 600,
    "digits_adamw": 500,
    "digits_convnet": 300,
    "digits_sgd": 600,
    "gaussian_regression": 800,
    "tabular": 300,
}
RATE_STEP = math.sqrt(2.0)
#: Rates tried at once, as powers of the step: for the tuned one, and around that of a neighbour.
LADDER, NEAR = range(-4, 5), range(-2, 3)
#: Times that a ladder is moved where its end is the best.
MOST_MOVES = 4
#: Lengths of a schedule that are tried at once, over a guess.
LENGTHS = (0.7, 1.0, 1.4)
#: Batches of the grid over the base batch, and from one to the next: what the best rate and the
#: steps are multiplied with for a first guess, and the ratio of steps that ends the direction.
#: Where steps no longer fall, or rise as the batch falls, no loop makes one further out the best.
DIRECTIONS = (
    ((2, 4, 8, 16), RATE_STEP, 0.65, 0.97),
    ((0.5, 0.25), 1.0 / RATE_STEP, 1.6, 1.9),
)


def count_steps(name: str, schedule: str) -> int:
    """Return the steps that the base pair trains."""
    return CONSTANT_STEPS if schedule == "constant" else SCHEDULED_STEPS[name]


def find_ends(name: str, schedule: str, rates: list[float]) -> list[float]:
    """Return the log loss after the base pair's steps, for each rate at its batch."""
    size, steps = load(name).BASE_BATCH_SIZE, count_steps(name, schedule)
    if schedule == "constant":
        curves = train_curves(name, size, rates, SEEDS, BEYOND * steps)
        return [curve.level_at(steps) for curve in curves]
    return [float(end) for end in train_ends(name, size, rates, SEEDS, [steps]).mean((1, 2))]


def read_default(name: str) -> float:
    """Return the task's own rate."""
    task = load(name)
    return float(task.make_optimizer(task.make_model()).param_groups[0]["lr"])


@functools.cache
def tune(name: str, schedule: str) -> float:
    """Return the rate at the base batch whose loss is lowest at the end."""
    middle = read_default(name)
    for _ in range(MOST_MOVES):
        rates = [middle * RATE_STEP**power for power in LADDER]
        best = int(np.argmin(find_ends(name, schedule, rates)))
        if 0 < best < len(rates) - 1:
            break
        middle = rates[best]
    return rates[best]


def make_base(name: str, schedule: str, base: str) -> Pair:
    """Return the base pair."""
    scale = 0.25 if base == "quarter" else 1.0
    rate = read_default(name) if base == "own" else scale * tune(name, schedule)
    return {"batch": load(name).BASE_BATCH_SIZE, "rate": rate}


def search_grid(name: str, schedule: str, base: str) -> dict[str, Any]:
    """Return the base pair, its loss, and by batch the best rate and its steps to that loss."""
    pair = make_base(name, schedule, base)
    (level,) = find_ends(name, schedule, [pair["rate"]])
    own, most = pair["batch"], len(load(name).make_dataset())
    steps = float(count_steps(name, schedule))
    find = functools.partial(find_best, name, schedule, level)
    found = {own: {"rate": pair["rate"], "steps": steps}}  # the best there is, where it is tuned
    if base != "tuned":
        scale, guess = (4.0, 0.5) if base == "quarter" else (1.0, 0.8)
        best = find(own, {"rate": scale * pair["rate"], "steps": steps}, guess)
        if best is not None and best["steps"] < steps:
            found[own] = best
    for factors, rate_factor, guess, most_ratio in DIRECTIONS:
        near = found[own]
        for size in (round(own * factor) for factor in factors):
            if size > most:
                break
            start = {"rate": near["rate"] * rate_factor, "steps": near["steps"]}
            best = find(size, start, guess)
            if best is None:
                break
            found[size] = best
            if best["steps"] > most_ratio * near["steps"]:
                break
            near = best
    return {
        "base_batch": own,
        "base_rate": pair["rate"],
        "steps": steps,
        "end_loss": math.exp(level),
        "batches": {str(size): best for size, best in sorted(found.items())},
    }


def find_best(
    name: str, schedule: str, level: float, size: int, near: Pair, factor: float
) -> Pair | None:
    """Return the best rate of a batch and its steps to a log loss, None where none gets there.

    Args:
        name: Of the task.
        schedule: One of the two.
        level: The log loss.
        size: The batch.
        near: A rate to begin with, and the steps of a neighbour.
        factor: What these are multiplied with for a first guess.
    """
    middle, guess, best = near["rate"], factor * near["steps"], math.inf
    rate = middle
    for _ in range(MOST_MOVES):
        rates = [middle * RATE_STEP**power for power in NEAR]
        found = _count_steps_to(name, schedule, level, size, rates, guess)
        place = int(np.argmin(found))
        is_longer = found[place] < math.inf
        if found[place] < best:
            best, rate = found[place], rates[place]
        is_inside = 0 < place < len(rates) - 1
        if is_longer and is_inside and (schedule == "constant" or best >= LENGTHS[0] * guess):
            break
        if not is_longer and guess > 2.2 * near["steps"]:
            break
        middle = rate if is_longer else middle
        guess = best if is_longer else guess * LENGTHS[-1] / LENGTHS[0]
    return {"rate": rate, "steps": best} if math.isfinite(best) else None


def _count_steps_to(
    name: str, schedule: str, level: float, size: int, rates: list[float], guess: float
) -> list[float]:
    """Return the steps to a log loss for each rate; a schedule's length is near the guess."""
    if schedule == "constant":
        curves = train_curves(name, size, rates, SEEDS, LENGTHS[-1] * guess, level)
        return [curve.steps_to(level) for curve in curves]
    lengths = sorted({max(2, round(guess * factor)) for factor in LENGTHS})
    ends = train_ends(name, size, rates, SEEDS, lengths)
    return [read_length(dict(zip(lengths, each, strict=True)), level) for each in ends]
