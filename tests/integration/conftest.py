"""Workers and commands in this process, and what is timed with them."""

import contextlib
import math
import statistics
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from advisor.cli import app
from advisor.engine import runner as engine_runner
from advisor.engine.runner import COLD_START_S, Runner
from advisor.engine.task import EnvironmentTask, ScriptTask
from advisor.loader.data import LoaderTask
from advisor.loader.plan import conclude_loader
from advisor.throughput.stage import BLOCK_S
from advisor.training.data import Script, WorkloadSpec, parse_target
from advisor.training.script.facts import conclude_facts
from advisor.training.script.sight import choose_other_filling, choose_own_filling
from tests.integration.servers import Servers

WORKLOADS = Path(__file__).parent.parent / "workloads"
SCRIPTS = WORKLOADS / "scripts"


@pytest.fixture(scope="session", autouse=True)
def short_blocks():
    """Sessions that time a step no better than the tests here need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BLOCK_S, "cpu", 0.02)
        yield


@pytest.fixture(scope="session")
def servers():
    """Of whatever runs in this process."""
    kept = Servers()
    yield kept
    kept.close()


@pytest.fixture(scope="session")
def runner(servers):
    """Real workers, each a fork of one server, which is there."""
    with Runner(None) as workers:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine_runner, "Forkserver", servers.open)
            workers.run(EnvironmentTask(device="cpu"), timeout_s=COLD_START_S)
        yield workers


@pytest.fixture(scope="module")
def shared_servers(servers, runner):
    """Have every command in this process take its workers from these; no budget pays for one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_runner, "Forkserver", servers.open)
        yield


@pytest.fixture
def open_workers(servers, runner, monkeypatch):
    """A function: workers that have imported what a model file names."""
    monkeypatch.setattr(engine_runner, "Forkserver", servers.open)
    with contextlib.ExitStack() as stack:
        yield lambda path: stack.enter_context(Runner(parse_target(str(path))))


@pytest.fixture(scope="session")
def run_command(servers, runner):
    """A function: runs a command in this process, and sees that none is left of it."""

    def run(*arguments, columns=100):
        left = list_children() - servers.list_pids()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine_runner, "Forkserver", servers.open)
            env = {"NO_COLOR": "1", "COLUMNS": str(columns)}
            result = CliRunner().invoke(app, [*map(str, arguments)], env=env)
        see_end_of_children(left | servers.list_pids())
        return result

    return run


def make_script(name, *arguments, target=None, **more):
    """Return one of the scripts, started with these arguments."""
    script = Script(arguments=arguments, **more)
    path = str(SCRIPTS / f"{name}.py")
    return WorkloadSpec(target=target or path, script=script, device="cpu")


@pytest.fixture
def see(runner):
    """A function: a script and its arguments go in, its facts come out."""

    def run(name, *arguments, workers=runner, **options):
        spec = make_script(name, *arguments, **options)
        (own,) = workers.run(
            ScriptTask(workload=spec, filling=choose_own_filling(spec)), timeout_s=100
        )
        filling = choose_other_filling(spec, own)
        (other,) = workers.run(ScriptTask(workload=spec, filling=filling), timeout_s=100)
        return conclude_facts(spec, own, other)

    return run


@pytest.fixture
def time_loader(runner):
    """A function: a loader goes in, its timings and what follows come out, and nothing is left."""

    def run(name, size=8, *, budget_s=9.0, workers=runner, **settings):
        target = str(WORKLOADS / f"{name}.py")
        task = LoaderTask(
            workload=WorkloadSpec(target=target, device="cpu", settings=settings),
            micro_batch_size=size,
            budget_s=budget_s,
        )
        before = list_children()
        timings = workers.run(task, timeout_s=100)
        see_end_of_children(before)
        return timings, conclude_loader(timings)

    return run


def see_end_of_children(before):
    """See that no process is below this one but these; what was killed may take a moment to go."""
    deadline = time.monotonic() + 10.0
    while not list_children() <= before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list_children() <= before


def list_children():
    return {process.pid for process in psutil.Process().children(recursive=True)}


@pytest.fixture
def count_right_workers():
    """A function: timings go in, the right number by the rule for these very windows comes out."""

    def count(timings):
        training = statistics.median(
            rate for each in timings for rate in each.training_samples_per_s
        )
        most = max(timings, key=lambda timing: timing.workers)
        assert most.workers > 0
        per_worker = statistics.median(most.alone_samples_per_s) / most.workers
        return math.ceil(training / per_worker)

    return count
