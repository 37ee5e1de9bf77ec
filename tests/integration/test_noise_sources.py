"""The noise of saved weights, of a real run's log and of tokens, with the real command."""

import json

import pytest
import torch
from torch.nn import functional

from advisor.noise.log import encode_noise_line
from advisor.training.data import WorkloadSpec
from advisor.training.model_file.workload import Workload
from tests.integration.probe_command import run_probe

pytestmark = pytest.mark.slow

MODEL = "tests/workloads/good/mean_squared_error.py"
TOKENS = "tests/workloads/good/token_weighted.py"
QUICK = ("--budget", "8s", "--max-batch", "16")


def probe(directory, target, *options):
    path = directory / "run.json"
    outcome = run_probe(
        target,
        *QUICK,
        *options,
        "--json",
        str(path),
        directory=directory,
    )
    assert outcome.survivors == ()
    return outcome, json.loads(path.read_text()) if path.exists() else None


def save_checkpoints(directory, model):
    """Return the options for two checkpoints of a model, the later one first."""
    weights = model.state_dict()
    torch.save({"model": weights, "step": 500}, directory / "late.pt")
    torch.save({"state_dict": weights, "step": 100}, directory / "early.pt")
    return [f"--checkpoint={directory / name}.pt" for name in ("late", "early")]


def log_noise(directory, workload, model):
    """Return the option for the log of a loop that accumulates 4 micro-batches of 8."""
    path = directory / "noise.jsonl"
    generator = torch.Generator().manual_seed(1)
    with path.open("w") as stream:
        for step in range(48):
            sqnorms, total = [], None
            for _ in range(4):
                inputs, targets = workload.draw(8, generator)
                loss = functional.mse_loss(model(inputs), targets)
                gradients = torch.autograd.grad(loss, list(model.parameters()))
                row = torch.cat([gradient.flatten() for gradient in gradients])
                sqnorms.append(float(row @ row))
                total = row / 4 if total is None else total + row / 4
            sizes = [8] * 4
            line = encode_noise_line(
                step, micro_batch_sizes=sizes, sqnorms=sqnorms, mean_sqnorm=float(total @ total)
            )
            stream.write(line)
    return [f"--noise-log={path}"]


@pytest.fixture
def workload():
    torch.manual_seed(0)
    return Workload(WorkloadSpec(target=MODEL, device="cpu"))


def test_the_noise_is_measured_at_each_checkpoint(tmp_path, workload):
    model = workload.make_training().model
    outcome, document = probe(tmp_path, MODEL, *save_checkpoints(tmp_path, model))
    assert outcome.exit_code == 0, outcome.stderr
    noise = document["derived"]["noise"]
    assert [point["at_step"] for point in noise["points"]] == [100, 500]
    assert noise["reason"].startswith("measured at 2 checkpoints, up to step 500")
    assert noise["points"][0]["noise_scale"]["point"] is not None


def test_weights_of_another_model_end_the_run_with_their_names(tmp_path):
    torch.save({"other.weight": torch.zeros(3)}, tmp_path / "other.pt")
    outcome, _ = probe(tmp_path, MODEL, f"--checkpoint={tmp_path / 'other.pt'}")
    assert outcome.exit_code == 5
    assert "other.pt" in outcome.stderr
    assert "other.weight" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_missing_checkpoint_is_told_at_once(tmp_path):
    outcome, _ = probe(tmp_path, MODEL, "--checkpoint=none.pt")
    assert outcome.exit_code == 2
    assert "none.pt" in outcome.stderr


def test_the_log_of_a_real_loop_gives_the_noise_of_that_loop(tmp_path, workload):
    model = workload.make_training().model
    outcome, document = probe(tmp_path, MODEL, *log_noise(tmp_path, workload, model))
    assert outcome.exit_code == 0, outcome.stderr
    noise = document["derived"]["noise"]
    assert document["noise_batches"] == []
    assert len(document["noise_log"]) == 48
    assert len(noise["points"]) == 6
    assert noise["micro_batch_size"] == 32


def test_a_wrong_line_of_a_log_is_told_at_once(tmp_path):
    path = tmp_path / "noise.jsonl"
    path.write_text('{"step": 0}\n')
    outcome, _ = probe(tmp_path, MODEL, f"--noise-log={path}")
    assert outcome.exit_code == 2
    assert "line 1" in outcome.stderr


def test_the_noise_is_told_in_tokens_and_weighs_them(tmp_path):
    outcome, document = probe(tmp_path, TOKENS, "--sample-unit=token", "--noise-steps=4")
    assert outcome.exit_code == 0, outcome.stderr
    noise = document["derived"]["noise"]
    assert noise["sample_unit"] == "token"
    assert 9.0 < noise["tokens_per_sample"] < 12.0
    assert "tokens that its loss counts" in noise["reason"]
    assert document["noise_batches"][0]["weights"]


def test_tokens_are_refused_where_samples_have_none(tmp_path):
    outcome, _ = probe(tmp_path, MODEL, "--sample-unit=token")
    assert outcome.exit_code == 2
    assert "--sample-unit" in outcome.stderr
