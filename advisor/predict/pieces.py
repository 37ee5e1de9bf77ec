"""The peaks of a trace at every micro-batch size, as a handful of affine pieces.

What is held at a point of the trace is a sum of sizes max(0, c + s·B), each convex in B, so it is
convex, and so is the peak. Where no line is below zero, one sum of lines says it all. Else the
sizes fall into ranges between the zeros of those lines; within a range the sum is affine, and by
convexity its line is nowhere above the true level. So the largest of all lines is exact.
"""

import msgspec
import numpy as np

from advisor.predict.data import PredictedMemory
from advisor.predict.law import AffinePiece
from advisor.predict.memory_trace import MemoryTrace, Phase
from advisor.predict.replay import Integers, find_spans, read_lines, sum_up


def derive_pieces(trace: MemoryTrace) -> PredictedMemory:
    """Return the exact peaks of both phases for every size from 1, which the trace must serve.

    Source: the upper envelope of lines, Andrew 1979 in the dual plane.
    """
    if not trace.serves_every_size:
        raise ValueError("the trace holds for one size only")
    fixed, slopes = read_lines(trace)
    forward_backward: list[AffinePiece] = []
    optimizer: list[AffinePiece] = []
    # A line with a positive slope is above zero from floor(−c/s) + 1 on, one with a negative slope
    # is no longer above zero from ceil(−c/s) on: there ranges begin, where no line changes sign.
    rising, falling = (slopes > 0) & (fixed + slopes <= 0), (slopes < 0) & (fixed + slopes > 0)
    appear = -fixed[rising] // slopes[rising] + 1
    vanish = -(fixed[falling] // slopes[falling])
    for size in [1, *np.unique(np.concatenate([appear, vanish])).tolist()]:
        is_there = fixed + slopes * size > 0
        heights = sum_up(trace, np.where(is_there, fixed, 0))
        growths = sum_up(trace, np.where(is_there, slopes, 0))
        forward_backward += _keep_highest(trace, heights, growths, ("forward", "backward"))
        optimizer += _keep_highest(trace, heights, growths, ("optimizer",))
    return PredictedMemory(
        operators=trace.operators,
        forward_backward=find_upper_envelope(forward_backward),
        optimizer=find_upper_envelope(optimizer),
        notes=trace.notes,
    )


def find_upper_envelope(lines: list[AffinePiece]) -> tuple[AffinePiece, ...]:
    """Return the lines that are the highest somewhere at B ≥ 1, in ascending slope."""
    hull: list[AffinePiece] = []
    for line in sorted(lines, key=lambda line: (line.bytes_per_sample, line.fixed_bytes)):
        if hull and hull[-1].bytes_per_sample == line.bytes_per_sample:
            hull.pop()
        while len(hull) > 1:
            (a, s), (b, t), (c, u) = map(msgspec.structs.astuple, (*hull[-2:], line))
            if (a - b) * (u - t) < (b - c) * (t - s):
                break
            hull.pop()  # it is nowhere above both of the lines around it in slope
        hull.append(line)
    first = max(range(len(hull)), key=lambda i: (hull[i].predict_bytes(1), i), default=0)
    return tuple(hull[first:])


def _keep_highest(
    trace: MemoryTrace, heights: Integers, growths: Integers, phases: tuple[Phase, ...]
) -> list[AffinePiece]:
    """Return the highest line of every slope in some phases; a flat 0 where there are none."""
    spans = [span for mark, span in find_spans(trace) if mark.phase in phases]
    if not spans:
        return [AffinePiece(0, 0)]
    points = np.concatenate([np.arange(span.start, span.stop + 1) for span in spans])
    slopes, first = np.unique(growths[points], return_inverse=True)
    tops = np.full(len(slopes), np.iinfo(np.int64).min)
    np.maximum.at(tops, first, heights[points])
    return [
        AffinePiece(height, slope)
        for height, slope in zip(tops.tolist(), slopes.tolist(), strict=True)
    ]
