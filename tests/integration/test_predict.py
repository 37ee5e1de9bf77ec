"""`bsadvisor predict`: real workers trace, no card is there."""

import gzip
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

#: Of few operators, so that its trace takes little.
MODEL = "tests/workloads/memory/perceptron.py"
RECORDED = Path(__file__).parents[1] / "recordings" / "races" / "digits.json.gz"
#: A busy machine may take its time: a prediction ends by itself.
CARDS = ("--gpu", "RTX 4090", "--gpu", "h100", "--budget", "10m")


@pytest.fixture(scope="module")
def saved(run_command, tmp_path_factory):
    path = tmp_path_factory.mktemp("predict") / "prediction.json"
    result = run_command("predict", "examples/char_lm.py", *CARDS, "--json", path, columns=80)
    assert result.exit_code == 0, result.stderr
    return path, result


def test_a_transformer_is_predicted_for_each_card(saved):
    path, result = saved
    document = json.loads(path.read_bytes())
    assert document["complete"]
    small, large = document["predictions"]
    assert (small["gpu"], large["gpu"]) == ("RTX 4090", "H100 SXM")
    assert 0 < small["max_micro_batch_size"]["low"] <= small["max_micro_batch_size"]["point"]
    for one in (small, large):
        for key in ("allocated_bytes", "reserved_bytes", "device_used_bytes"):
            assert one[key]["low"] <= one[key]["point"] <= one[key]["high"]
        assert one["device_used_bytes"]["point"] <= one["usable_bytes"]
        parts = sum(share["size_bytes"] for share in one["breakdown"])
        assert parts == one["device_used_bytes"]["point"]
    assert "Predicted, not run" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_saved_prediction_prints_the_same_again_without_the_model(
    saved, run_command, tmp_path, monkeypatch
):
    path, result = saved
    monkeypatch.chdir(tmp_path)
    again = run_command("report", path, columns=80)
    assert (again.exit_code, again.stdout) == (0, result.stdout)


def test_what_holds_the_memory_and_what_would_change_it_are_told(saved):
    path, result = saved
    for one in json.loads(path.read_bytes())["predictions"]:
        peak, compared = one["at_peak"], one["what_would_change"]
        assert sum(peak["bytes_by_category"].values()) == peak["peak_bytes"]
        assert sum(share["size_bytes"] for share in peak["modules"]) == peak["peak_bytes"]
        assert peak["modules"][0]["name"] == "layers.layers.*"
        names = [remedy["name"] for remedy in compared["remedies"]]
        assert {"bf16 autocast", "activation checkpointing"} <= set(names)
        assert all(each["peak_bytes"] < compared["peak_bytes"] for each in compared["remedies"])
    assert "At the peak" in result.stdout
    assert "What would change it" in result.stdout


def test_a_size_asked_for_needs_more_memory_than_a_smaller_one(run_command):
    used = []
    for size in (64, 512):
        arguments = (MODEL, "--gpu-memory", "8GiB", "--micro-batch-size", size)
        document = json.loads(run_command("predict", *arguments, "--json", "-").stdout)
        used.append(document["predictions"][0]["device_used_bytes"]["point"])
        assert document["predictions"][0]["micro_batch_size"] == size
    assert used[0] < used[1]


def test_a_bad_name_of_a_card_ends_before_anything_runs(run_command):
    result = run_command("predict", "examples/digits.py", "--gpu", "RTX 4091")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Did you mean RTX 4090" in result.stderr


def test_a_failing_model_file_exits_5_with_its_own_traceback(run_command):
    result = run_command("predict", "tests/workloads/bad/shape_error.py", *CARDS)
    assert (result.exit_code, result.stdout) == (5, "")
    assert "shape_error.py" in result.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What `bsadvisor probe examples/digits.py --json` wrote, stored once."""
    path = tmp_path_factory.mktemp("run") / "run.json"
    path.write_bytes(gzip.decompress(RECORDED.read_bytes()))
    return path


@pytest.fixture(scope="module")
def carried(run_command, run):
    """What is predicted of a small model that was run here."""
    prices = ("--gpu-price", "h100=2.5", "--gpu-price", "0.5", "--epochs", "100")
    asked = ("--run", run, *prices, "--json", "-")
    result = run_command("predict", "examples/digits.py", *CARDS, *asked)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_dataset_ends_the_sizes_of_a_small_model(carried):
    for one in carried["predictions"]:
        assert one["limited_by"] == "dataset"
        assert one["max_micro_batch_size"]["point"] == carried["workload"]["dataset_size"]


def test_a_real_run_is_carried_over_to_cards_that_are_not_here(carried, run):
    measured = json.loads(run.read_bytes())
    assert [each["rank"] for each in carried["answers"]] == [1, 2]
    trained = {(each["global_batch_size"], each["learning_rate"]) for each in measured["trials"]}
    for each in carried["answers"]:
        assert (each["global_batch_size"], each["learning_rate"]) in trained
        assert each["basis"] == "bounded"  # a CPU says nothing of how a card's steps scale
        assert each["training_samples"] == 100 * carried["workload"]["dataset_size"]
        assert each["training_s"]["low"] > 0.0
        assert each["training_s"]["high"] is None
    costs = [each["training_price"]["low"] for each in carried["answers"]]
    assert costs == sorted(costs)


def test_a_run_of_another_model_is_refused(run_command, run):
    result = run_command("predict", MODEL, *CARDS, "--run", run)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is a run of another model file" in " ".join(result.stderr.split())
