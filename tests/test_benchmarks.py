"""Every figure of the documents can be made again: the benchmarks go with the code."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
IMPORT = """
import importlib, sys
sys.path.insert(0, {folder!r})
for name in {names!r}:
    importlib.import_module(name)
"""


@pytest.fixture
def benchmarks_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.slow
def test_every_benchmark_can_be_imported():
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    assert "advice_in_the_loop" in names
    code = IMPORT.format(folder=str(BENCHMARKS), names=names)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=BENCHMARKS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_result_has_its_benchmark():
    results = {path.stem for path in (BENCHMARKS / "results").glob("*.json")}
    code = "".join(path.read_text(encoding="utf-8") for path in BENCHMARKS.rglob("*.py"))
    assert [name for name in sorted(results) if name not in code] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["gaussian_regression", "digits_adamw", "digits_convnet", "char_lm"]
)
def test_a_slice_of_the_grid_trains_as_the_pair_alone(task, benchmarks_on_path):
    import loop_stack
    import loop_trainings

    rates, seeds, steps = [0.01, 0.002], (1, 2), 10
    curves = loop_stack.train_curves(task, 8, rates, seeds, steps)
    ends = loop_stack.train_ends(task, 8, rates, seeds, [steps // 2, steps])
    for place, rate in enumerate(rates):
        pair = {"batch": 8, "rate": rate}
        curve = loop_trainings.train_curve(task, pair, seeds, steps)
        np.testing.assert_allclose(curves[place].logs, curve.logs, atol=1e-3)
        end = loop_trainings.train_to_end(task, pair, seeds, steps)
        np.testing.assert_allclose(ends[place, 1], end, atol=1e-3)


def test_steps_to_a_loss_are_those_of_a_known_curve(benchmarks_on_path):
    import loop_trainings

    steps = np.arange(1, 200)
    curve = loop_trainings.Curve(steps, -0.01 * np.stack([steps, steps], axis=1))
    for wanted in (10.0, 50.5, 150.0):
        assert curve.steps_to(-0.01 * wanted) == pytest.approx(wanted)
    assert curve.steps_to(-3.0) == np.inf

    def train(length):  # a loss that falls with the root of the length
        return np.full(3, -0.5 * np.log(length))

    for guess in (20.0, 100.0, 900.0):
        ends = loop_trainings.find_length(train, -0.5 * np.log(300.0), guess, 2000.0)
        assert loop_trainings.read_length(ends, -0.5 * np.log(300.0)) == pytest.approx(300.0)
    ends = loop_trainings.find_length(train, -0.5 * np.log(300.0), 20.0, 100.0)
    assert loop_trainings.read_length(ends, -0.5 * np.log(300.0)) == np.inf
