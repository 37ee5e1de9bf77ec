"""What the sessions of one side say of a metric by themselves, whatever it is compared with."""

from collections.abc import Sequence

from advisor.gate.data import Metric, Occasion
from advisor.gate.verdict import list_sessions, log_seconds
from advisor.statistics import Estimate, estimate_median_over_sessions, exponentiate


def estimate_level(
    metric: Metric, side: Sequence[Occasion], *, as_cost: bool = False
) -> Estimate | None:
    """Return a noisy metric with its interval of 95 % over sessions; None for what is counted.

    `as_cost` gives seconds of a sample in place of samples each second.
    """
    if metric not in {"throughput", "first_step"}:
        return None
    logs = [log_seconds(metric, session) for session in list_sessions(side)]
    known = estimate_median_over_sessions([[log_s] for log_s in logs if log_s is not None])
    if metric == "first_step":
        return exponentiate(known)
    size = float(side[0].setting.micro_batch_size)
    if as_cost:
        return exponentiate(known, factor=1.0 / size)
    return exponentiate(known, factor=size, inverse=True)
