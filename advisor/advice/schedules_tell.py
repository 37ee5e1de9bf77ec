"""Batches that grow during training: whether to, what it saves, and from which step on."""

from collections.abc import Sequence

from advisor.advice.data import Schedule, ScheduleItem
from advisor.units import count_of, format_count, format_rate

_LABELS = {"noise": "Schedule", "milestones": "Decay swap", "cosine": "Decay swap"}


def render_schedules(schedules: Sequence[Schedule]) -> list[tuple[str, str]]:
    """Return (label, line) for each schedule considered and for each of its items."""
    rows = []
    for schedule in schedules:
        label = _LABELS[schedule.kind]
        rows.append((label, describe_schedule(schedule)))
        rows += [(label, _describe_item(item)) for item in schedule.items]
    return rows


def describe_schedule(schedule: Schedule) -> str:
    """Return whether it is advised, why, what it saves, and what it rests on."""
    advised = "advised" if schedule.items else "not advised"
    parts = [f"{advised}: {schedule.reason}", _describe_gain(schedule)]
    if schedule.measured_to_step is not None:
        start, end = schedule.measured_from_step or 0, schedule.measured_to_step
        span = f"step {format_count(start)} to {format_count(end)}"
        parts.append(f"the noise was measured from {span}, beyond it nothing is known")
    if schedule.items and schedule.rate_note:
        parts.append(schedule.rate_note)
    elif schedule.items:
        parts.append("no rates, since none was run to scale from")
    return "; ".join(part for part in parts if part)


def _describe_gain(schedule: Schedule) -> str:
    gain, over_advised = schedule.gain_fraction, schedule.gain_over_advised_fraction
    if gain is None:
        return ""
    saved = f"predicted to save {_percent(gain)} of the time"
    if over_advised is None:
        return f"{saved} at the advised batch"
    return f"{saved} at the best constant batch, {_percent(over_advised)} at the advised one"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _describe_item(item: ScheduleItem) -> str:
    batch = f"batch {format_count(item.global_batch_size)}"
    if item.gradient_accumulation_steps > 1:
        batch += f" ({item.micro_batch_size} × {item.gradient_accumulation_steps})"
    rate = "" if item.learning_rate is None else f", rate {format_rate(item.learning_rate)}"
    samples = count_of(item.from_samples, "sample")
    return f"from step {format_count(item.from_step)} ({samples}): {batch}{rate}"
