"""The noise of saved weights, of a real run's log and of tokens, with real workers."""

import weakref

import pytest
import torch
from torch.nn import functional

from advisor.cli.failures import write_failure
from advisor.errors import AdvisorError
from advisor.noise import measure as noise_measure
from advisor.noise.data import NOISE_BATCHES, NOISE_LOG, NoiseTask, Trajectory
from advisor.noise.log import encode_noise_line
from advisor.noise.plan import NOISE
from advisor.sharpness import measure as sharpness_measure
from advisor.sharpness.data import SharpnessTask
from advisor.training.data import WorkloadSpec
from advisor.training.model_file.workload import Workload
from tests.integration.asked import ask

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_servers")]

MODEL = "tests/workloads/good/mean_squared_error.py"
TOKENS = "tests/workloads/good/token_weighted.py"


def save_checkpoints(directory, model):
    """Return the paths of two checkpoints of a model, the later one first."""
    weights = model.state_dict()
    torch.save({"model": weights, "step": 500}, directory / "late.pt")
    torch.save({"state_dict": weights, "step": 100}, directory / "early.pt")
    return tuple(str(directory / f"{name}.pt") for name in ("late", "early"))


def log_noise(directory, workload, model):
    """Return the path of the log of a loop that accumulates 4 micro-batches of 8."""
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
    return str(path)


@pytest.fixture
def workload():
    torch.manual_seed(0)
    return Workload(WorkloadSpec(target=MODEL, device="cpu"))


def test_the_noise_is_measured_at_each_checkpoint(tmp_path, workload):
    checkpoints = save_checkpoints(tmp_path, workload.make_training().model)
    noise = ask("noise", target=MODEL, checkpoints=checkpoints, budget_s=120.0).of(NOISE)
    assert [point.at_step for point in noise.points] == [100, 500]
    assert noise.reason.startswith("measured at 2 checkpoints, up to step 500")
    assert noise.points[0].noise_scale.point is not None


@pytest.mark.parametrize("question", [noise_measure, sharpness_measure])
def test_trainings_of_checkpoints_are_in_memory_one_after_the_other(
    question, tmp_path, workload, monkeypatch
):
    path = Trajectory(
        micro_batch_size=8,
        checkpoints=save_checkpoints(tmp_path, workload.make_training().model),
        budget_s=120.0,
    )
    fields = {"workload": workload.spec, "trajectory": path, "micro_batch_size": 8}
    task = SharpnessTask(**fields)
    if question is noise_measure:
        task = NoiseTask(**fields, groups=8, max_micro_batches=16)
    made, living, make = [], [], Workload.make_training

    def count(self):
        living.append(sum(reference() is not None for reference in made))
        training = make(self)
        made.append(weakref.ref(training))
        return training

    monkeypatch.setattr(Workload, "make_training", count)
    monkeypatch.setattr(question, "keep_freed_memory", lambda device: None)
    found = []
    question.run(task, found.append)
    assert {each.at_step for each in found} == {100, 500}
    assert living == [0, 0]


def test_weights_of_another_model_end_the_run_with_their_names(tmp_path, capsys):
    path = tmp_path / "other.pt"
    torch.save({"other.weight": torch.zeros(3)}, path)
    with pytest.raises(AdvisorError) as failure:
        ask("noise", target=MODEL, checkpoints=(str(path),))
    assert failure.value.exit_code == 5
    write_failure(failure.value)
    said = capsys.readouterr().err
    assert "other.pt" in said
    assert "other.weight" in said
    assert "Traceback" not in said


def test_the_log_of_a_real_loop_gives_the_noise_of_that_loop(tmp_path, workload):
    path = log_noise(tmp_path, workload, workload.make_training().model)
    conclusions = ask("noise", target=MODEL, noise_log=path)
    noise = conclusions.of(NOISE)
    assert conclusions.record.all(NOISE_BATCHES) == ()
    assert len(conclusions.record.all(NOISE_LOG)) == 48
    assert len(noise.points) == 6
    assert noise.micro_batch_size == 32


def test_the_noise_is_told_in_tokens_and_weighs_them():
    conclusions = ask("noise", target=TOKENS, sample_unit="token", noise_steps=4)
    noise = conclusions.of(NOISE)
    assert noise.sample_unit == "token"
    assert 9.0 < noise.tokens_per_sample < 12.0
    assert "tokens that its loss counts" in noise.reason
    assert conclusions.record.all(NOISE_BATCHES)[0].weights


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--checkpoint=none.pt", "none.pt"),
        ("--noise-log=wrong.jsonl", "line 1"),
        ("--sample-unit=token", "--sample-unit"),
    ],
)
def test_what_cannot_be_used_is_told_at_once(option, said, tmp_path, run_command):
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"step": 0}\n')
    result = run_command(
        "probe", MODEL, option.replace("wrong.jsonl", str(path)), "--device", "cpu"
    )
    assert result.exit_code == 2
    assert said in result.stderr
