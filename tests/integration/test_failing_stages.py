"""A stage that fails in the user's code fails alone: it is told, and what the others saw stands."""

import pytest

from advisor.advice.plan import ADVICE
from advisor.loader.data import LOADER_TIMINGS
from advisor.memory.plan import MEMORY
from advisor.noise.plan import NOISE
from advisor.questions import RUN
from advisor.race.plan import CUT_SHORT, RACE
from advisor.throughput.conclude import THROUGHPUT
from tests.integration.asked import ask

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_servers")]

FILE = "tests/workloads/stages/one_fails.py"


def run(*names, stages, how, budget_s=60.0):
    """The conclusions of a run in which the user's loss fails in these stages."""
    settings = {"stages": stages, "how": how}
    names = ("memory", "throughput", *names)
    return ask(*names, target=FILE, settings=settings, budget_s=budget_s, max_micro_batch_size=64)


def test_every_stage_after_the_speed_may_raise():
    found = run("noise", "loader", "trial", "soak", stages="noise,loader,rate,soak", how="raises")
    record = found.record
    assert record.complete
    assert [end.stage for end in record.failures] == ["noise", "loader", "trial", "soak"]
    assert {end.message.rpartition("/")[2] for end in record.failures} == {
        "one_fails.py:34: ValueError: the stage is broken, in loss_fn(model, batch)"
    }
    assert found.of(MEMORY).max_micro_batch_size == 64
    assert found.of(THROUGHPUT).points
    assert found.of(RACE).reason == CUT_SHORT
    assert not any("Raise --budget so" in each for each in found.of(ADVICE).warnings)
    headline = RUN.headline(found)
    for stage in ("Noise", "Loader", "Trial", "Soak"):
        assert any(each.startswith(f"{stage} was cut short: ") for each in headline.remarks)
    assert headline.answer.startswith("Stay with batch 16")
    assert headline.missing == ""  # no answer: the exit code is 3


def test_a_stage_that_is_killed_leaves_the_others():
    found = run("noise", "loader", stages="noise", how="dies", budget_s=14.0)
    (end,) = found.record.failures
    assert end.stage == "noise"
    assert "SIGKILL" in end.message
    assert found.record.all(LOADER_TIMINGS)


def test_a_stage_that_hangs_leaves_time_to_the_others():
    found = run("noise", "loader", stages="noise", how="hangs", budget_s=14.0)
    (end,) = found.record.failures
    assert end.stage == "noise"
    assert "one_fails.py:" in end.message
    assert found.of(NOISE).decisive is None
    assert found.record.all(LOADER_TIMINGS)
