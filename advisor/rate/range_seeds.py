"""A range test's findings as rows of text."""

from collections.abc import Sequence

from advisor.rate.data import LrRangeCurve, LrRangeSeed
from advisor.rate.range_test import conclude_lr_range
from advisor.units import count_of, format_number, format_rate


def describe_range(curves: Sequence[LrRangeCurve]) -> list[str]:
    """Return where the curves turn, one line for each seed; none without a curve."""
    conclusion = conclude_lr_range(curves)
    if conclusion is None:
        return []
    own = [each for each in curves if each.global_batch_size == conclusion.global_batch_size]
    steps = count_of(own[-1].steps, "step")
    first, last = format_rate(own[-1].rates[0]), format_rate(max(c.rates[-1] for c in own))
    head = f"{count_of(len(own), 'seed')}, {steps} from {first} up, at most to {last}"
    return [head, *(describe_seed(each) for each in conclusion.seeds)]


def describe_seed(seed: LrRangeSeed) -> str:
    """Return where one seed's smoothed loss turns."""
    if seed.lowest_at is None or seed.learns_from is None or seed.steepest_at is None:
        return f"seed {seed.seed}: the loss stays at {format_number(seed.first_loss)}"
    parts = [
        f"seed {seed.seed}: learns from {format_rate(seed.learns_from)}",
        f"fastest at {format_rate(seed.steepest_at)}",
        f"lowest loss {format_number(seed.lowest_loss)} at {format_rate(seed.lowest_at)}",
    ]
    if seed.diverges_at is not None:
        parts.append(f"clearly rising from {format_rate(seed.diverges_at)}")
    return ", ".join(parts)
