"""A monitor's value, and what it tells the log, the logger and the next monitor."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from advisor import NoiseScaleMonitor
from advisor.in_loop.data import pool_steps
from advisor.noise.data import NoiseLogEntry
from advisor.noise.log import read_noise_log
from advisor.noise.point import estimate_log_points
from tests.unit.in_loop.seen import train


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Linear(6, 1)


@pytest.fixture
def run_pass(model):
    torch.manual_seed(1)
    inputs = torch.randn(64, 4, 6)

    def run(number):
        targets = inputs[number].sum(1, keepdim=True) + 1.0
        nn.functional.mse_loss(model(inputs[number]), targets).backward()

    return run


def test_the_value_is_that_of_a_log_of_the_same_steps(model, run_pass, tmp_path):
    log = tmp_path / "noise.jsonl"
    monitor, _ = train(model, run_pass, steps=12, log=log)
    entries = read_noise_log(log)
    assert entries == monitor.entries
    (point,) = estimate_log_points(entries, most_windows=1)
    value = monitor.value
    assert (value.noise_scale, value.low, value.high) == (
        point.noise_scale.point,
        point.noise_scale.low,
        point.noise_scale.high,
    )
    assert (value.steps, value.samples_seen, value.batch_size) == (12, 12 * 12, 12)
    assert value.estimator == "micro-batches"
    assert "from the micro-batches of 12 steps, every step" in str(monitor)


def test_a_value_is_not_below_zero_and_one_that_noise_hides_is_not_known():
    # As much of the gradient in the whole batch as in its parts: less noise than none, as sampled.
    value = pool_steps([entry(mean, 1.0) for mean in (1.0, 1.1) * 4], "micro-batches")
    assert (value.noise_scale, value.low) == (0.0, 0.0)
    value = pool_steps([entry(mean, 1.0) for mean in (0.2, 0.9, 0.1, 0.8) * 2], "micro-batches")
    assert (value.noise_scale, value.low, value.high) == (None, None, None)
    assert str(value) == "not known: the gradient is too small against its noise"


@pytest.mark.parametrize(
    "settings", [{"every": 0}, {"window": 7}, {"batch_size": 0}, {"dataset_size": 0}]
)
def test_a_number_that_would_tell_nothing_is_refused(model, settings):
    with pytest.raises(ValueError, match=str(*settings.values())):
        NoiseScaleMonitor(model, torch.optim.SGD(model.parameters(), lr=0.1), **settings)


def entry(mean_sqnorm, micro_batch_sqnorm):
    return NoiseLogEntry(
        at_step=0,
        samples=8.0,
        micro_batches=2.0,
        micro_batch_sqnorm=micro_batch_sqnorm,
        mean_sqnorm=mean_sqnorm,
    )


def test_a_line_says_optimizer_rate_and_estimator(model, run_pass, tmp_path):
    log = tmp_path / "noise.jsonl"
    train(model, run_pass, steps=1, log=str(log))
    line = json.loads(log.read_text())
    assert (line["optimizer"], line["estimator"]) == ("SGD", "micro-batches")
    assert "learning_rate" not in line  # it is 0 here
    assert "loss" not in line


def test_there_is_no_value_before_eight_steps(model, run_pass):
    monitor, _ = train(model, run_pass, steps=7)
    assert monitor.value is None
    assert "7 steps measured" in str(monitor)


def test_the_window_forgets(model, run_pass):
    monitor, _ = train(model, run_pass, steps=12, window=9)
    assert [entry.at_step for entry in monitor.entries] == [*range(3, 12)]


def test_another_monitor_goes_on(model, run_pass):
    first, _ = train(model, run_pass, steps=9)
    state = json.loads(json.dumps(first.state_dict()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    second = NoiseScaleMonitor(model, optimizer, every=2)
    second.load_state_dict(state)
    assert second.value == first.value
    with second:
        for _ in range(3):
            optimizer.zero_grad()
            run_pass(0)
            run_pass(1)
            optimizer.step()
    assert [entry.at_step for entry in second.entries] == [*range(9), 10]


def test_a_closure_and_a_wrapped_optimizer(model, run_pass):
    class Wrapped:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def close():
        optimizer.zero_grad()
        run_pass(0)
        run_pass(1)

    with NoiseScaleMonitor(model, Wrapped(optimizer), every=1) as monitor:
        for _ in range(3):
            optimizer.step(close)
    assert [entry.micro_batches for entry in monitor.entries] == [2, 2, 2]


class Writer:
    def __init__(self):
        self.told = []

    def add_scalar(self, name, value, step):
        self.told.append((name, value, step))


class Tracker:
    def __init__(self):
        self.told = []

    def log_metrics(self, values, step):
        self.told += [(*pair, step) for pair in values.items()]


class Run:
    """As a run of Weights & Biases, whose `log` without a step counts by itself."""

    def __init__(self):
        self.told = []

    def log(self, data, step=None, commit=None):
        assert (step, commit) == (None, False)
        self.told += [(*pair, 8 + len(self.told) // 3) for pair in data.items()]


def make_function():
    def log(values, step):
        log.told += [(*pair, step) for pair in values.items()]

    log.told = []
    return log


@pytest.mark.parametrize("make", [Writer, Tracker, Run, make_function])
def test_a_logger_is_told_each_value(model, run_pass, make):
    logger = make()
    monitor, _ = train(model, run_pass, steps=10, logger=logger)
    assert [(name, step) for name, _, step in logger.told] == [
        (name, step)
        for step in (7, 8, 9)
        for name in ("noise_scale", "noise_scale_low", "noise_scale_high")
    ] or isinstance(logger, Run)
    assert logger.told[-3][1] == monitor.value.noise_scale
    assert logger.told[-1][1] == monitor.value.high


def test_what_is_no_logger_and_what_does_not_train_is_refused(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="int is no logger"):
        NoiseScaleMonitor(model, optimizer, logger=7)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter"):
        NoiseScaleMonitor(model, optimizer)


@pytest.mark.slow
def test_advisor_alone_imports_no_torch_and_the_monitor_nothing_of_the_command_line():
    code = (
        "import sys, advisor; assert 'torch' not in sys.modules; "
        "from advisor import NoiseScaleMonitor; "
        "assert not {'typer', 'rich', 'plotly', 'jinja2', 'advisor.cli'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
