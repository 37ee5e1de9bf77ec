"""What a whole run asks of workers, each once and short, and what is told of the answers."""

import re

from advisor.engine.record import Conclusions
from advisor.engine.spec import Spec
from advisor.engine.task import EnvironmentTask, InspectTask
from advisor.loader.data import LOADER_TIMINGS, LOOP_TIMINGS, LoaderTask, LoopTask
from advisor.memory.data import PROBES, MemoryTask
from advisor.noise.data import NOISE_BATCHES, NoiseTask, Trajectory
from advisor.predict.data import TraceTask
from advisor.questions import RUN
from advisor.rate.data import TRIALS, TrialTask
from advisor.soak.data import SOAKS, SoakTask
from advisor.throughput.data import ThroughputTask
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.integration.conftest import list_children, see_end_of_children
from tests.unit.doubles import Notes

_PATIENCE_S = 120.0


def see_every_stage(target, runner):
    """See that each stage bears the model file, the advice too, and that nothing is left of it."""
    before = list_children()
    spec = Spec(workload=WorkloadSpec(target=str(target), device="cpu", base_batch_size=16))
    run = open_run(spec, runner=runner, progress=Notes(), save=lambda record: None)
    (environment,) = runner.run(EnvironmentTask(device="cpu"), timeout_s=_PATIENCE_S)
    run.keep_environment(environment)
    (facts,) = runner.run(InspectTask(workload=spec.workload), timeout_s=_PATIENCE_S)
    run.keep_workload(facts)
    for task, series in _list_tasks(run.spec.workload):
        results = runner.run(task, timeout_s=_PATIENCE_S)
        assert results
        if series is not None:
            run.add(series, *results)
    conclusions = Conclusions(run.record)
    assert re.match(r"(Train|Stay) with batch \d+", RUN.headline(conclusions).answer)
    assert all(each.tell(conclusions) for each in RUN.questions if each.tell is not None)
    see_end_of_children(before)


def _list_tasks(workload):
    size = {"workload": workload, "micro_batch_size": 16}
    sizes = {"workload": workload, "micro_batch_sizes": (16,)}
    times = {**size, "gradient_accumulation_steps": 2}
    path = Trajectory(micro_batch_size=16, points=(0, 4), budget_s=60.0)
    return [
        (MemoryTask(**size, capacity_bytes=1 << 30), PROBES),
        (TraceTask(workload=workload, operators="cpu", min_micro_batch_size=16), None),
        (ThroughputTask(**sizes, session=0, block_s=0.01, rounds=2, budget_s=60.0), PROBES),
        (NoiseTask(**size, trajectory=path, groups=8, max_micro_batches=16), NOISE_BATCHES),
        (LoaderTask(**size, budget_s=1.0), LOADER_TIMINGS),
        (LoopTask(**sizes, budget_s=0.5), LOOP_TIMINGS),
        (TrialTask(**times, learning_rate=0.01, samples=256, seeds=(0,)), TRIALS),
        (SoakTask(**times, capacity_bytes=1 << 30, steps=8, evaluations=1, budget_s=60.0), SOAKS),
    ]
