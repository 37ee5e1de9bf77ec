"""The GPU's benchmark, run short on the CPU: the same processes, and what may go wrong in them."""

import json
import time
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODEL = BENCHMARKS / "models" / "residual.py"


@pytest.fixture
def benchmarks(monkeypatch):
    """The benchmarks find each other as they do when they are run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture(scope="module")
def environment():
    """Of this machine, on which the benchmarks begin a server of workers each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        from session_against_loop import read_environment

        return read_environment("cpu")


def test_a_session_and_a_loop_give_a_ratio_and_what_has_no_counter_is_named(
    benchmarks, environment
):
    from session_against_loop import Plan, compare_model

    plan = Plan(
        block_s=0.02, rounds=2, loop_blocks=2, long_block_s=0.05, session_budget_s=5.0,
        least_pairs=1, most_pairs=1,
    )  # fmt: skip
    ends_s = time.monotonic() + 100.0
    row = compare_model(MODEL, 4, environment, part_ends_s=ends_s, deadline_s=ends_s, plan=plan)
    assert row["ratios"] == (row["median_ratio"],)
    assert row["tool_samples_per_s"] > 0.0
    assert row["loop_samples_per_s"] > 0.0
    assert row["issuing_fraction"] is None
    assert row["energy"]["ratio"] is None
    assert row["energy"]["missing_because"]
    json.dumps(row, allow_nan=False)


def test_a_loop_that_fails_says_why(benchmarks, tmp_path):
    from session_against_loop import run_loop

    from advisor.errors import InconclusiveError

    path = tmp_path / "model.py"
    path.write_text("raise ValueError('no such thing')")
    with pytest.raises(InconclusiveError, match="ValueError: no such thing"):
        run_loop(path, 4, "cpu", block_s=0.02, blocks=1, timeout_s=60.0)


def test_a_loop_that_does_not_end_is_ended(benchmarks, tmp_path):
    from session_against_loop import run_loop

    from advisor.errors import InconclusiveError

    path = tmp_path / "model.py"
    path.write_text("import time\ntime.sleep(60)")
    with pytest.raises(InconclusiveError, match="did not end within 1 s"):
        run_loop(path, 4, "cpu", block_s=0.02, blocks=1, timeout_s=1.0)


def test_events_give_seconds_of_a_step(benchmarks, monkeypatch):
    import loop_by_hand

    stream = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at_ms = 5.0 * stream.count("step")
            stream.append("event")

        def elapsed_time(self, later):
            assert stream[-1] == "wait"
            return later.at_ms - self.at_ms

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: stream.append("wait"))
    step_s = loop_by_hand.time_block_by_events(lambda: stream.append("step"), 3)
    assert step_s == pytest.approx(0.005)
    assert stream == ["wait", "event", "step", "step", "step", "event", "wait"]


def test_a_session_that_fails_later_leaves_the_first_pair(benchmarks, environment, monkeypatch):
    import session_against_loop as script

    from advisor.device.data import Telemetry
    from advisor.errors import InconclusiveError
    from advisor.memory.data import Probe

    def run_session(runner, device, task, *, timeout_s):
        if task.session:
            raise InconclusiveError("no more memory")
        probe = Probe(
            stage="throughput", session=0, micro_batch_size=4, outcome="fit", steps=2,
            step_times_s=(0.02, 0.02), block_spans_s=((1.0, 1.02), (2.0, 2.02)),
            block_steps=(1, 1), enqueue_times_s=(0.01, 0.01),
        )  # fmt: skip
        return script.Session(probe=probe, telemetry=Telemetry(session=0))

    monkeypatch.setattr(script, "run_session", run_session)
    monkeypatch.setattr(script, "run_loop", lambda *_, **__: 250.0)
    ends_s = time.monotonic() + 100.0
    row = script.compare_model(MODEL, 4, environment, part_ends_s=ends_s, deadline_s=ends_s)
    assert row["cut_short_by"] == "no more memory"
    assert row["median_ratio"] == pytest.approx(0.8)
    assert row["issuing_fraction"] == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["transformer", "embedding", "tied", "gpt2"])
def test_the_loop_trains_every_kind_of_model(benchmarks, name):
    from loop_by_hand import load_model_file, write_loop

    user = load_model_file(BENCHMARKS / "models" / f"{name}.py")
    if name == "gpt2":
        user.make_model = lambda: user.LanguageModel(layers=1, width=8, heads=2, context=16)
        user.make_batch = lambda size: torch.randint(0, user.VOCABULARY, (size, 17))
    write_loop(user, 2, torch.device("cpu"))()


def test_a_model_that_fails_is_a_row_and_the_others_are_kept(benchmarks, environment, monkeypatch):
    import throughput_against_loop as script

    def compare(path, size, environment, *, part_ends_s, deadline_s):
        if path.stem == "gpt2":
            raise RuntimeError("broken")
        energy = {"energy_per_sample_j": 1.0, "ratio": 1.05, "missing_because": None}
        return {
            "micro_batch_size": size, "median_ratio": 0.99, "energy": energy,
            "tool_samples_per_s": 1.0, "loop_samples_per_s": 1.0,
        }  # fmt: skip

    monkeypatch.setattr(script, "compare_model", compare)
    kept = []
    results = script.measure_on_gpu(
        ["gpt2", "tied"], environment, deadline_s=time.monotonic() + 100.0, keep=kept.append
    )
    assert [len(each["rows"]) for each in kept] == [1, 2]
    assert results["rows"][0]["error"] == "RuntimeError: broken"
    assert (results["speed_compared"], results["speed_agrees"]) == (1, 1)
    assert (results["energy_compared"], results["energy_agrees"]) == (1, 1)
    late = script.measure_on_gpu(["tied"], environment, deadline_s=0.0, keep=kept.append)
    assert late["rows"] == [{"model": "tied", "error": "not reached: the time was up"}]


def test_a_part_that_fails_does_not_end_the_others(benchmarks):
    from gpu import run_parts

    done = []
    parts = {"first": lambda: 1 / 0, "second": lambda: done.append("second")}
    assert run_parts(parts) == ["first"]
    assert done == ["second"]


def test_memory_that_fails_or_is_not_reached_is_a_row(benchmarks, environment, monkeypatch):
    import gpu

    kept = []
    monkeypatch.setattr(gpu, "write_results", lambda name, payload: kept.append((name, payload)))
    monkeypatch.setattr(gpu, "compare_sizes", lambda *_, **__: [{"error_fraction": -0.02}])
    monkeypatch.setattr(gpu, "search_largest", lambda *_: 1 / 0)
    gpu.measure_memory(["tied"], environment, deadline_s=time.monotonic() + 100.0)
    gpu.measure_memory(["tied"], environment, deadline_s=0.0)
    assert [name for name, _ in kept] == ["gpu"] * 4
    failed, unreached = kept[1][1], kept[3][1]
    assert [row["precision"] for row in failed["rows"]] == ["fp32", "bf16"]
    assert failed["rows"][0]["error"] == "ZeroDivisionError: division by zero"
    assert failed["median_error_fraction"] == pytest.approx(0.02)
    assert unreached["rows"][0]["error"] == "not reached: the time was up"
    assert unreached["median_error_fraction"] is None


def test_the_usual_models_are_at_least_five_and_exist(benchmarks):
    from throughput_against_loop import GPU_MODELS, GPU_SIZES

    assert len(GPU_MODELS) >= 5
    assert all((BENCHMARKS / "models" / f"{name}.py").is_file() for name in GPU_SIZES)
