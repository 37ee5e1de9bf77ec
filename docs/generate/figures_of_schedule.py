"""What a batch that follows its noise scale gained, whichever way it went."""

from collections.abc import Mapping
from typing import Any

from committed import draw_table, ratio, read, tell_range, tell_source

_RATE_SCHEDULES = {"cosine": "warm-up, cosine", "stable": "warm-up, stable, decay"}
_SAME, _WHOLE = "time, the same micro-batch", "time, constant batches in one pass"


def tell_schedule() -> str:
    """Return the section on the monitored schedule."""
    found = read("schedule_gain")
    cells = found["cells"]
    table = draw_table(
        (
            "task",
            "rate",
            "best constant batch",
            "time, same micro-batch",
            "time, one pass",
            "samples",
            "steps",
        ),
        (
            (
                cell["task"],
                _RATE_SCHEDULES[cell["rate_schedule"]],
                str(cell[_SAME]["best_batch"]),
                *(_tell(cell[name]) for name in (_SAME, _WHOLE, "samples", "steps")),
            )
            for cell in cells
        ),
    )
    faster = sum(cell[_SAME]["high"] < 1.0 for cell in cells)
    slower = sum(cell[_SAME]["low"] > 1.0 for cell in cells)
    costs = tell_range(found["time_with_monitor_over_without"].values(), ratio)
    return f"""Trainings whose batch begins with the task's own and doubles as `BatchSizeSchedule` follows a `NoiseScaleMonitor`, beside the best constant batch of a grid from the same batch upwards, all at tuned rates: the ratio of what both take to an equal final loss, means over {len(found["seeds"])} seeds with their intervals; below one the schedule is ahead. The best constant batch is chosen for each column by the same seeds, which favours it; named is that of the first column. *Same micro-batch*: both accumulate passes of half the first batch, as where memory allows no more. *One pass*: constant batches need no accumulation, and small models on a CPU are faster in large passes.

{table}

At the same micro-batch it was surely faster in {faster} of {len(cells)} cells and surely slower in {slower}. The monitor is not counted: measuring each {found["measured_every"]}th step of models this small makes a training take {costs} times as long, and by itself it keeps to a hundredth of a step.

{tell_source("schedule_gain")}"""


def _tell(estimate: Mapping[str, Any]) -> str:
    low, high = ratio(estimate["low"]), ratio(estimate["high"])
    return f"{ratio(estimate['ratio'])} ({low} to {high})"
