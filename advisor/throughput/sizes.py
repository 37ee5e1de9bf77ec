"""Which micro-batch sizes to time: a first sweep, then those around the answer."""

import itertools
import math
from collections.abc import Collection, Sequence

from advisor.throughput.data import Saturation, ThroughputPoint
from advisor.throughput.law import StepLaw, find_tread_end, predict_law_saturation
from advisor.throughput.law_fits import fit_step_laws
from advisor.throughput.saturation import LEAST_SIZES, SATURATION_TOLERANCE_FRACTION

#: Most sizes of a first sweep. Ten cover a range of 500 at one size for each doubling, and every
#: further size costs a block in every session.
MOST_SWEEP_SIZES = 10
#: Neighbours nearer than this ratio say nothing new: their throughputs differ by about 1 % where
#: the curve saturates.
_LEAST_RATIO = 1.2
#: The same of refined sizes, which lie where the answer does.
_LEAST_REFINED_RATIO = 1.1
#: The same where stairs were seen: a size a little beyond the end of a tread pays for the next one.
_LEAST_TREAD_RATIO = 1.02
#: A refined size is a multiple of this where its gap is wide enough for that: hardware computes in
#: tiles, and a size one above a tile would stand for the worst of its neighbourhood.
_TILE = 8
#: Errors of a step time that laws are held against after one session, which shows none itself; they
#: are taken for known.
_ONE_SESSION_ERRORS, _MANY_DEGREES_OF_FREEDOM = (0.005, 0.01, 0.02, 0.04), 1000
#: Times the saturation batch by the likeliest stairs at which one more tread is timed: near enough
#: to stand in for it where it turns out to fall short.
_BEYOND_RATIO = 1.3
#: Throughput within this share of the best makes a provisional answer, while one session is known.
_PROVISIONAL_FRACTION = 0.95
#: After each of the first sessions, as many as this, a refinement is chosen: what a session says
#: about where a tread ends, the next one corrects. Where the law moves to another tread, whose end
#: was not timed, the answer would be a far larger size.
REFINING_SESSIONS = 5


def choose_sweep(
    *,
    min_micro_batch_size: int,
    max_micro_batch_size: int,
    batch_multiple: int = 1,
    base_batch_size: int | None = None,
    given_micro_batch_size: int | None = None,
    most_sizes: int = MOST_SWEEP_SIZES,
) -> tuple[int, ...]:
    """Return the first sizes to time, ascending: about one for each doubling, at most ten.

    The ends of the range and, if feasible, the base batch and the given size are always in. Where
    the range holds more doublings, every second one is left out from the bottom up: saturation
    mostly lies in the upper half, and a refinement closes a gap that it falls in. Empty where no
    multiple lies in the range.
    """
    smallest = -(-max(min_micro_batch_size, 1) // batch_multiple) * batch_multiple
    largest = max_micro_batch_size // batch_multiple * batch_multiple
    if smallest > largest:
        return ()
    kept = {smallest, largest}
    for size in (base_batch_size, given_micro_batch_size):
        if size is not None and smallest <= size <= largest and size % batch_multiple == 0:
            kept.add(size)
    doublings = (batch_multiple * 2**power for power in itertools.count())
    inside = itertools.takewhile(lambda size: size < largest, doublings)
    grid = [size for size in inside if size > smallest and _is_apart(size, kept, _LEAST_RATIO)]
    return tuple(sorted(kept.union(thin(grid, most_sizes - len(kept)))))


def thin(sizes: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of the sizes: every second one goes, from the bottom up, then again."""
    left, index = list(sizes), 0
    while len(left) > max(most, 0):
        index = index if index < len(left) else 0
        del left[index]
        index += 1
    return left


def choose_refinement(
    points: Sequence[ThroughputPoint], saturation: Saturation, *, batch_multiple: int = 1
) -> tuple[int, ...]:
    """Return at most three further sizes around the saturation batch, ascending.

    Where the times rise in stairs, they are the ends of the treads that may reach saturation.
    Otherwise two split the gap below the answer, where the true saturation batch lies; one splits
    the gap above where the answer is not sure. They are not powers of two: stairs may end between
    those. After one session nothing is concluded, and the likeliest law's answer stands in. Empty
    where the curve does not saturate within the sizes, or the gap is narrow already.
    """
    ordered = sorted(points, key=lambda point: point.micro_batch_size)
    sizes = [point.micro_batch_size for point in ordered]
    laws = _fit_laws(ordered)
    if laws and laws[0].kind == "stairs":
        return _choose_tread_ends(laws, sizes, batch_multiple)
    answer = saturation.batch_size or _guess_answer(ordered, saturation, laws)
    if answer not in sizes:
        return ()
    index = sizes.index(answer)
    chosen: set[int] = set()
    if index > 0:
        chosen.update(_split_gap(sizes[index - 1], answer, 2, batch_multiple))
    if index + 1 < len(sizes) and (saturation.high is None or saturation.high > answer):
        chosen.update(_split_gap(answer, sizes[index + 1], 1, batch_multiple))
    return tuple(sorted(chosen))


def _is_apart(size: int, others: Collection[int], least_ratio: float) -> bool:
    return all(max(size, other) >= least_ratio * min(size, other) for other in others)


def _fit_laws(points: Sequence[ThroughputPoint]) -> tuple[StepLaw, ...]:
    """Return the laws that the sizes allow at the least error at which any does."""
    known = {p.micro_batch_size: p.step_s.point for p in points if p.step_s.point is not None}
    attempts = (
        fit_step_laws(
            [*known],
            [*known.values()],
            errors=error,
            degrees_of_freedom=_MANY_DEGREES_OF_FREEDOM,
        )
        for error in (_ONE_SESSION_ERRORS if len(known) >= LEAST_SIZES else ())
    )
    return next((laws for laws in attempts if laws), ())


def _choose_tread_ends(
    laws: Sequence[StepLaw], sizes: Sequence[int], batch_multiple: int
) -> tuple[int, ...]:
    """Return where the treads end that reach saturation, by the likeliest laws, and one beyond.

    The smallest end comes first: a size a little beyond the end of a tread pays for the next one.
    """
    best, least = laws[0], predict_law_saturation(laws[0], SATURATION_TOLERANCE_FRACTION)
    ends = sorted(
        find_tread_end(law, predict_law_saturation(law, SATURATION_TOLERANCE_FRACTION))
        for law in laws
        if law.kind == "stairs"
    )
    beyond = find_tread_end(best, _BEYOND_RATIO * least)
    chosen: set[int] = set()
    for end in (find_tread_end(best, least), ends[0], beyond, ends[-1]):
        size = end // batch_multiple * batch_multiple
        inside = sizes[0] < size < sizes[-1]
        if inside and len(chosen) < 3 and _is_apart(size, {*sizes, *chosen}, _LEAST_TREAD_RATIO):
            chosen.add(size)
    return tuple(sorted(chosen))


def _guess_answer(
    points: Sequence[ThroughputPoint], saturation: Saturation, laws: Sequence[StepLaw]
) -> int | None:
    """Return the size that saturates by the likeliest law, where one session is all that is known.

    The largest size where that lies beyond it; the first size near the best throughput where no law
    fits.
    """
    if saturation.status != "inconclusive" or any(point.sessions > 1 for point in points):
        return None
    speeds = [(p.micro_batch_size, p.samples_per_s.point or 0.0) for p in points]
    if laws:
        least = predict_law_saturation(laws[0], SATURATION_TOLERANCE_FRACTION)
        return next((size for size, _ in speeds if size >= least), speeds[-1][0])
    best = max((speed for _, speed in speeds), default=0.0)
    return next((size for size, speed in speeds if speed >= _PROVISIONAL_FRACTION * best > 0), None)


def _split_gap(below: int, above: int, parts: int, batch_multiple: int) -> set[int]:
    """Return up to `parts` sizes between the two, at equal ratios, on tiles where there is room."""
    has_room = above - below >= 2 * (parts + 1) * _TILE * batch_multiple
    granularity = math.lcm(batch_multiple, _TILE) if has_room else batch_multiple
    ratio = (above / below) ** (1.0 / (parts + 1))
    exact = [below * ratio ** (part + 1) for part in range(parts)]
    chosen: set[int] = set()
    for size in sorted({round(size / granularity) * granularity for size in exact}):
        inside = below < size < above
        if inside and _is_apart(size, {below, above, *chosen}, _LEAST_REFINED_RATIO):
            chosen.add(size)
    return chosen
