"""Where along a training the gradients are measured: iterates drawn within spans of its steps."""

import itertools
import math
import random

#: Spans of a trajectory: each is as long as all before it.
STATIONS = 6
#: Most iterates of a trajectory: then drawing them leaves even the average of SGD at the edge of
#: stability known within 10 %.
MOST_ITERATES = 64
#: Fewest of a span: two hardly show how iterates differ.
_LEAST_ITERATES = 3


def plan_edges(steps: int, iterates: int) -> tuple[int, ...]:
    """Return the ends of the spans of a run, 0 first; fewer spans for few steps or iterates."""
    count = max(1, min(STATIONS, iterates // _LEAST_ITERATES))
    return tuple(sorted({0, *(math.ceil(steps / 2**k) for k in range(count))}))


def draw_iterates(edges: tuple[int, ...], iterates: int, *, seed: int) -> tuple[int, ...]:
    """Return the steps before each iterate, ascending: one at random in each part of a span.

    A span gets iterates as the root of its length, which splits the errors of the average and of
    the trend. At equal distances they would meet one phase of an oscillation alone.
    """
    generator = random.Random(seed)  # noqa: S311 - draws steps, keeps no secret
    spans = list(itertools.pairwise(edges))
    whole = sum(math.sqrt(end - start) for start, end in spans)
    points: list[int] = []
    for start, end in spans:
        length = end - start
        wanted = max(_LEAST_ITERATES, round(iterates * math.sqrt(length) / whole))
        count = min(length, wanted)
        cuts = [start + length * k // count for k in range(count + 1)]
        points += [generator.randrange(*cut) for cut in itertools.pairwise(cuts)]
    return tuple(points)
