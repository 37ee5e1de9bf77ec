"""Whether the saturation question gets an answer beside a busy neighbour, and what it is worth.

Run: python benchmarks/saturation_under_load.py [--probes 3] [--budget 30] [--models digits,...]

Each model's memory and throughput are probed by real workers, first for long and alone, then some
times while another process multiplies matrices on one thread without a pause. Training has the
other processors: where it computes on all of them, each parallel loop waits until the neighbour
yields, steps of one batch take 0.04 to 1.3 s, and no session agrees with another. An answer is held
to be right where its interval holds the long one's batch, or its gain of the last doubling that of
the long one. The law's agreement is the range over the probes of t(largest)/t(base) by the one law.
"""

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from results import write_results

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.engine.command import execute
from advisor.engine.record import Conclusions
from advisor.engine.spec import Limits, Spec
from advisor.questions import RUN
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import Saturation, ThroughputConclusion
from advisor.throughput.step_time import compare_step_s, read_throughput
from advisor.training.data import WorkloadSpec

ROOT = Path(__file__).resolve().parent.parent
MODELS = {
    "digits": ("examples/digits.py", None),
    "char_lm": ("examples/char_lm.py", 64),
    "convnet": ("examples/convnet.py", 128),
    "gan": ("examples/gan.py", 256),
    "perceptron": ("benchmarks/measured_models/perceptron.py", 2048),
    "tabular": ("benchmarks/tasks/tabular.py", None),
    "digits_sgd": ("benchmarks/tasks/digits_sgd.py", None),
}
#: Budget of the measurement that the others are held against, over theirs.
LONG_RATIO = 4.0
NEIGHBOUR = "import numpy as np\na = np.ones((300, 300))\nwhile True:\n    a @ a"
TIMED = ("memory", "throughput")


class Silent:
    """Progress that shows nothing."""

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Show nothing."""

    def plan(self, text: str) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""


@contextmanager
def neighbour() -> Iterator[None]:
    """Keep one thread of the machine busy."""
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    busy = subprocess.Popen([sys.executable, "-c", NEIGHBOUR], env=environment)
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def probe(model: str, budget_s: float) -> ThroughputConclusion | None:
    """Return what the memory and throughput questions conclude in that time."""
    target, most = MODELS[model]
    kind = replace(RUN, questions=tuple(q for q in RUN.questions if q.name in TIMED), told=())
    spec = Spec(
        workload=WorkloadSpec(target=str(ROOT / target)),
        limits=Limits(budget_s=budget_s, max_micro_batch_size=most),
    )
    record = execute(kind, spec, argv=(), progress=Silent(), save=lambda _: None)
    return Conclusions(record).of(THROUGHPUT)


def compare(found: ThroughputConclusion | None, base: int) -> float | None:
    """Return t(largest)/t(base) by the law."""
    if found is None or not found.points:
        return None
    largest = found.points[-1].micro_batch_size
    ratio = compare_step_s(read_throughput(found), (largest, 1), (base, 1))
    return None if ratio is None else math.exp(ratio[0])


def agrees(found: Saturation, long: Saturation) -> bool | None:
    """Return whether an answer's interval holds that of the long measurement; None without one."""
    if found.status == "inconclusive" or long.status == "inconclusive":
        return None
    if found.batch_size is not None and long.batch_size is not None:
        low, high = found.low or 1, found.high or math.inf
        return low <= long.batch_size <= high or found.batch_size == long.batch_size
    gain, truly = found.last_gain, long.last_gain
    if gain is None or truly is None or gain.low is None or gain.high is None:
        return None
    return gain.low <= (truly.high or 0.0) and (truly.low or 0.0) <= gain.high


def describe(found: ThroughputConclusion | None, base: int) -> dict[str, Any]:
    """Return the answer as figures."""
    if found is None:
        return {"status": "none"}
    each, gain = found.saturation, found.saturation.last_gain
    return {
        "status": each.status,
        "batch_size": each.batch_size,
        "low": each.low,
        "high": each.high,
        "last_gain": None if gain is None else [gain.point, gain.low, gain.high],
        "sessions": max((point.sessions for point in found.points), default=0),
        "largest": found.points[-1].micro_batch_size if found.points else None,
        "step_ratio": compare(found, base),
    }


def main() -> None:
    """Probe every model, print each answer, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--probes", type=int, default=3, help="under load, of each model")
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of a probe")
    parser.add_argument("--models", default=",".join(MODELS), help="which models")
    parser.add_argument("--base", type=int, default=32, help="the step that ratios are of")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 2) - 1))
    rows = []
    for model in arguments.models.split(","):
        long = probe(model, LONG_RATIO * arguments.budget)
        row = {"model": model, "long": describe(long, arguments.base), "probes": []}
        print(model, "alone", row["long"], flush=True)
        for _ in range(arguments.probes):
            with neighbour():
                found = probe(model, arguments.budget)
            figures = describe(found, arguments.base)
            if found is not None and long is not None:
                figures["agrees"] = agrees(found.saturation, long.saturation)
            row["probes"].append(figures)
            print(model, figures, flush=True)
        rows.append(row)
    answers = [each for row in rows for each in row["probes"]]
    known = [each["agrees"] for each in answers if each.get("agrees") is not None]
    summary = {
        "answered": sum(each["status"] not in {"none", "inconclusive"} for each in answers),
        "probes": len(answers),
        "agreed": sum(known),
        "compared": len(known),
    }
    print(summary)
    if not arguments.no_write:
        print(f"written: {write_results('saturation_under_load', {**summary, 'models': rows})}")


if __name__ == "__main__":
    main()
