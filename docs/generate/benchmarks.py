"""Write docs/benchmarks.md from the committed results: `python docs/generate/benchmarks.py`.

No figure stands in this file: each is read from `benchmarks/results/`, and a test says so.
"""

from collections.abc import Callable
from pathlib import Path

import figures_of_advice as advice
import figures_of_memory as memory
import figures_of_noise as noise
import figures_of_schedule as schedule
import figures_of_speed as speed

PAGE = Path(__file__).resolve().parent.parent / "benchmarks.md"
HEAD = """# How far to trust it

Generated from `benchmarks/results/` by `docs/generate/benchmarks.py`: each figure is computed from the files below its section. Anyone can run a benchmark again: `python benchmarks/NAME.py`. This version's figures are from CPUs, most of them shared with neighbours; `benchmarks/gpu.py` has what is left to show on a GPU. How each figure comes about is in [method.md](method.md) and [memory.md](memory.md)."""
SECTIONS: dict[str, Callable[[], str]] = {
    "In short": advice.tell_summary,
    "The advice in the user's own loop": advice.tell_advice,
    "Public scripts, unchanged": advice.tell_scripts,
    "One training as a script and as a model file": advice.tell_agreement,
    "Public codes as model files": advice.tell_codes,
    "The learning rate": advice.tell_rates,
    "Verification": advice.tell_verification,
    "The first screen in the README": advice.tell_screen,
    "The largest batch": memory.tell_largest,
    "Prediction for other GPUs": memory.tell_prediction,
    "Predicted and counted memory": memory.tell_table,
    "Host memory of a large model": memory.tell_large,
    "The trace of a step": memory.tell_trace,
    "Memory search without a trace": memory.tell_search,
    "The noise interval": noise.tell_coverage,
    "The noise of a model whose gradients do not fit": noise.tell_sketches,
    "The noise along a training": noise.tell_course,
    "What the noise and the sharpness cost": noise.tell_cost,
    "A monitor in the user's own loop": noise.tell_monitor,
    "A batch that follows its noise scale": schedule.tell_schedule,
    "Timing": speed.tell_timing,
    "Where speed saturates": speed.tell_saturation,
    "Is it slower than it was?": speed.tell_gate,
    "What the tool itself costs": speed.tell_overhead,
}


def write_page() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, tell in SECTIONS.items():
        parts += [f"## {title}", tell()]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
