"""Which sizes to time besides those of the first sweep, once it is known where the answer lies."""

import math
from collections.abc import Sequence

from advisor.throughput.data import Saturation, ThroughputPoint
from advisor.throughput.law import (
    StepLaw,
    find_tread_end,
    fit_step_laws,
    predict_law_saturation,
)
from advisor.throughput.saturation import LEAST_SIZES, SATURATION_TOLERANCE_FRACTION

#: Neighbours nearer than this ratio say nothing new.
_LEAST_REFINED_RATIO = 1.1
#: A refined size is a multiple of this where its gap is wide enough for that: hardware computes in
#: tiles, and a size one above a tile would stand for the worst of its neighbourhood.
_TILE = 8
#: The same where stairs were seen: a size a little beyond the end of a tread pays for the next one.
_LEAST_TREAD_RATIO = 1.02
#: Errors of a step time that laws are held against after one session, which shows none itself.
_ONE_SESSION_ERRORS = (0.005, 0.01, 0.02, 0.04)
#: Times the saturation batch by the likeliest stairs at which one more tread is timed: near enough
#: to stand in for it where it turns out to fall short.
_BEYOND_RATIO = 1.3
#: Degrees of freedom of such an error: it is taken for known.
_MANY_DEGREES_OF_FREEDOM = 1000
#: Throughput within this share of the best makes a provisional answer, while one session is known.
_PROVISIONAL_FRACTION = 0.95
#: After each of the first sessions, as many as this, a refinement is chosen: what a session says
#: about where a tread ends, the next one corrects. Where the law moves to another tread, whose end
#: was not timed, the answer would be a far larger size.
REFINING_SESSIONS = 5


def choose_refinement(
    points: Sequence[ThroughputPoint], saturation: Saturation, *, batch_multiple: int = 1
) -> tuple[int, ...]:
    """Return at most three further sizes around the saturation batch, ascending.

    Where the times rise in stairs, they are the ends of the treads that may reach saturation.
    Otherwise two split the gap below the answer, where the true saturation batch lies; one splits
    the gap above where the answer is not sure. They are not powers of two: stairs may end between
    those. After one session nothing is concluded, and the likeliest law's answer stands in.

    Args:
        points: The sizes timed so far.
        saturation: What they say.
        batch_multiple: Only multiples of this are feasible.

    Returns:
        Empty where the curve does not saturate within the sizes, or the gap is narrow already.
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
    is_unsure = saturation.high is None or saturation.high > answer
    if index + 1 < len(sizes) and is_unsure:
        chosen.update(_split_gap(answer, sizes[index + 1], 1, batch_multiple))
    return tuple(sorted(chosen))


def is_apart(size: int, others: set[int], least_ratio: float) -> bool:
    """Return whether the size is at least that ratio away from all others."""
    return all(max(size, other) >= least_ratio * min(size, other) for other in others)


def _fit_laws(points: Sequence[ThroughputPoint]) -> tuple[StepLaw, ...]:
    """Return the laws that the sizes allow, the likeliest first.

    One session shows no error: the least one at which any law fits is taken.
    """
    known = [
        (point.micro_batch_size, point.step_s.point)
        for point in points
        if point.step_s.point is not None
    ]
    if len(known) < LEAST_SIZES:
        return ()
    sizes, step_s = zip(*known, strict=True)
    for error in _ONE_SESSION_ERRORS:
        laws = fit_step_laws(
            sizes, step_s, errors=error, degrees_of_freedom=_MANY_DEGREES_OF_FREEDOM
        )
        if laws:
            return laws
    return ()


def _choose_tread_ends(
    laws: Sequence[StepLaw], sizes: Sequence[int], batch_multiple: int
) -> tuple[int, ...]:
    """Return where the treads end that reach saturation, by the likeliest laws, and one beyond.

    The smallest end comes first: a size a little beyond the end of a tread pays for the next one.
    """
    saturating = [predict_law_saturation(law, SATURATION_TOLERANCE_FRACTION) for law in laws]
    best = laws[0]
    ends = sorted(
        find_tread_end(law, size)
        for law, size in zip(laws, saturating, strict=True)
        if law.kind == "stairs"
    )
    wanted = [
        find_tread_end(best, saturating[0]),
        ends[0],
        find_tread_end(best, _BEYOND_RATIO * saturating[0]),
        ends[-1],
    ]
    chosen: set[int] = set()
    for end in wanted:
        size = end // batch_multiple * batch_multiple
        inside = sizes[0] < size < sizes[-1]
        if inside and len(chosen) < 3 and is_apart(size, {*sizes, *chosen}, _LEAST_TREAD_RATIO):
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
    known = [
        (point.micro_batch_size, point.samples_per_s.point)
        for point in points
        if point.samples_per_s.point is not None
    ]
    if laws:
        least = predict_law_saturation(laws[0], SATURATION_TOLERANCE_FRACTION)
        return next((size for size, _ in known if size >= least), known[-1][0])
    best = max((speed for _, speed in known), default=math.inf)
    return next((size for size, speed in known if speed >= _PROVISIONAL_FRACTION * best), None)


def _split_gap(below: int, above: int, parts: int, batch_multiple: int) -> set[int]:
    """Return up to `parts` sizes between the two, at equal ratios, on tiles where there is room."""
    granularity = batch_multiple
    if above - below >= 2 * (parts + 1) * _TILE * batch_multiple:
        granularity = math.lcm(batch_multiple, _TILE)
    ratio = (above / below) ** (1.0 / (parts + 1))
    exact = [below * ratio ** (part + 1) for part in range(parts)]
    rounded = {round(size / granularity) * granularity for size in exact}
    chosen: set[int] = set()
    for size in sorted(size for size in rounded if below < size < above):
        if is_apart(size, {below, above, *chosen}, _LEAST_REFINED_RATIO):
            chosen.add(size)
    return chosen
