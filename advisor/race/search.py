"""Which pair is trained next: from the best so far to its neighbours in batch and rate.

    batch    B/2    B    2B   ...  the batch that the law names comes first
    rate      η/√2  η   √2η  2η    around the rule's rate; a double step up while it pays, and
                                   down at a batch that is far slower there than the law has it;
                                   at last half a step to either side

A larger batch saves steps at most in proportion, a smaller one none. So none larger is tried where
samples are no faster, and none smaller where a step takes as long.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from advisor.noise.data import NEAR_OPTIMUM_FRACTION
from advisor.rate.data import Candidate

#: Each rate over the next lower one. Near the edge of stability a whole step is too coarse: the
#: last ones are half as long, and miss the best rate by 9 % at most.
RATE_STEP = math.sqrt(2.0)
#: Steps from the rule's rate: a factor of 8 down, of 16 up.
LOWEST, HIGHEST = -6, 8
#: Least distance of neighbouring batches: nearer ones differ in time by less than a trial can tell.
_LEAST_DISTANCE = math.log(1.4)
#: Log of the ratio by which the least change must pay to be worth a trial.
_LEAST_GAIN = math.log(1.0 - NEAR_OPTIMUM_FRACTION)
#: Log of the time by which the law must name another batch for it to come before other rates.
_LARGE_GAIN = math.log(0.8)
#: Log of the time over the law's from which on a batch is tried at a lower rate: the rule's is then
#: beyond what is stable.
_FAR_SLOWER = math.log(1.2)
#: Log of the time over the base pair's that says that a rate is beyond what is stable.
_BAD = math.log(1.5)
#: Log of the time by which the law must be against a batch, beside the best, to leave it out.
_HOPELESS = math.log(1.5)


class Place(NamedTuple):
    """A batch, and its rate in steps from the rule's."""

    size: int
    step: float


def choose_next(
    ways: Sequence[Candidate],
    seen: Mapping[Place, float | None],
    predict: Callable[[Candidate], float],
    planned: int,
) -> Place | None:
    """Return the place to try next; None where no neighbour of the best can be clearly faster.

    `seen` has the log of the time ratio at each place tried, the base pair's among them; None where
    it failed: no higher rate of that batch is tried. `predict` is the law's log ratio of a batch at
    the rule's rate, `planned` the batch that it names.
    """
    sizes = {way.global_batch_size: way for way in ways}
    known = {place: ratio for place, ratio in seen.items() if ratio is not None}
    here = {place: ratio for place, ratio in known.items() if place.size in sizes}
    if not here:  # a batch that was given, and nothing of it was tried or none trained
        step = min((place.step for place in seen if place.size in sizes), default=1) - 1
        return Place(planned, step) if step >= LOWEST else None
    best = min(here, key=lambda place: (here[place], place))
    for place in _list_neighbours(best, sizes, seen, predict, planned):
        if place not in seen and LOWEST <= place.step < _find_edge(seen, place.size):
            return place
    return None


def _list_neighbours(
    best: Place,
    sizes: Mapping[int, Candidate],
    seen: Mapping[Place, float | None],
    predict: Callable[[Candidate], float],
    planned: int,
) -> Iterator[Place]:
    """Yield the neighbours of the best place, the most promising first."""
    way, gains, batches = sizes[best.size], dict[int, float](), []
    for size in (planned, *_find_neighbours([*sizes], best.size)):
        if size not in sizes or size == best.size:
            continue
        # A batch saves steps at most in proportion.
        saved = min(0.0, math.log(best.size / size))
        if math.log(sizes[size].step_s / way.step_s) + saved < _LEAST_GAIN:
            gains[size] = predict(sizes[size]) - predict(way)
    for size in sorted(gains, key=gains.__getitem__):
        place = _enter(size, best, seen, (seen[best] or 0.0) + gains[size])
        if gains[size] < _HOPELESS and place is not None:
            batches.append(place)
    is_highest = not any(place.size == best.size and place.step > best.step for place in seen)
    rates = [Place(best.size, best.step + 2)] if is_highest else []
    is_large = min(gains.values(), default=0.0) < _LARGE_GAIN
    yield from [*batches, *rates] if is_large else [*rates, *batches]
    for step in (1.0, -1.0, 0.5, -0.5):
        yield Place(best.size, best.step + step)


def _find_edge(seen: Mapping[Place, float | None], size: int) -> float:
    """Return the step from which on no rate of a batch is tried: one failed, or they end."""
    failed = (place.step for place, ratio in seen.items() if place.size == size and ratio is None)
    return min(failed, default=HIGHEST + 1.0)


def _enter(
    size: int, best: Place, seen: Mapping[Place, float | None], expected: float
) -> Place | None:
    """Return the place to try at another batch; None where its best rate was found.

    As far from the rule as the best place of all, then down until one trains, then around that.
    """
    tried = {place: ratio for place, ratio in seen.items() if place.size == size}
    # Where it was tried, it was left before the best rate went up.
    if max((place.step for place in tried), default=-math.inf) < best.step:
        return Place(size, best.step)
    known = {place: ratio for place, ratio in tried.items() if ratio is not None}
    own = min(known, key=lambda place: (known[place], place), default=None)
    if own is not None and known[own] <= expected + _FAR_SLOWER:
        return None
    lowest = min(place.step for place in tried)
    if own is None or (own.step == lowest and known[own] > _BAD):
        return Place(size, lowest - 2)
    near = (Place(size, own.step + 1), Place(size, own.step - 1))
    edge = _find_edge(seen, size)
    return next((place for place in near if place not in seen and place.step < edge), None)


def _find_neighbours(sizes: Sequence[int], size: int) -> Iterator[int]:
    """Yield the batches nearest to the double and the half, of those that are not too close."""
    for factor in (2.0, 0.5):
        sign = math.copysign(1.0, factor - 1.0)
        side = [other for other in sizes if sign * math.log(other / size) >= _LEAST_DISTANCE]
        if side:
            yield min(side, key=lambda other: (abs(math.log(other / (size * factor))), other))
