"""The seconds of an optimizer step by the run's timing."""

from advisor.throughput.data import ThroughputConclusion, ThroughputPoint


def estimate_branch_step_s(
    throughput: ThroughputConclusion | None, micro_batch_size: int, accumulation: int
) -> float | None:
    """Return the seconds of an optimizer step by the run's timing; None outside what it timed.

    Between two timed micro-batches the time lies on a straight line. An accumulated step is its
    forward and backward passes plus one optimizer step, or whole steps where no part was timed.

    Source: derived; within the range the step time is affine (docs/method.md, section 1).
    """
    if throughput is None:
        return None
    points = sorted(throughput.points, key=lambda point: point.micro_batch_size)
    timed = [point for point in points if point.step_s.point is not None]
    below = [point for point in timed if point.micro_batch_size <= micro_batch_size]
    above = [point for point in timed if point.micro_batch_size >= micro_batch_size]
    if not below or not above:
        return None
    whole = _interpolate(below[-1], above[0], micro_batch_size, part=False)
    if accumulation == 1 or whole is None:
        return whole
    micro = _interpolate(below[-1], above[0], micro_batch_size, part=True)
    if micro is None:
        return accumulation * whole
    return accumulation * micro + (throughput.optimizer_step_s or 0.0)


def _interpolate(
    below: ThroughputPoint, above: ThroughputPoint, size: int, *, part: bool
) -> float | None:
    low, high = (point.micro_step_s if part else point.step_s.point for point in (below, above))
    if low is None or high is None:
        return None
    span = above.micro_batch_size - below.micro_batch_size
    share = 0.0 if span == 0 else (size - below.micro_batch_size) / span
    return low + share * (high - low)
