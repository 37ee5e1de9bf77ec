"""The loop of a run: search says what runs next, a worker runs it, the record keeps the result."""

import time
from collections.abc import Callable, Sequence

import msgspec

from advisor.advice.data import SCENARIO
from advisor.advice.plan import ADVICE, list_ways
from advisor.device.data import Environment
from advisor.device.processor import read_processor_counters
from advisor.engine.commands import ProbeSpec
from advisor.engine.opening import EnvironmentTask, InspectTask
from advisor.engine.progress import Progress
from advisor.engine.record import open_record
from advisor.engine.run import Run
from advisor.engine.run_record import RunRecord
from advisor.engine.runner import COLD_START_S, Runner
from advisor.loader.stage import run_loader
from advisor.memory.given_batch import refuse_impossible_batch, refuse_oversized_batch
from advisor.memory.stage import run_memory
from advisor.memory_savings.stage import run_memory_savings
from advisor.noise.stage import check_sample_unit, read_noise_inputs, run_noise
from advisor.rate.range_stage import run_ranged_rate
from advisor.rate.trial_stage import run_trial
from advisor.sharpness.stage import run_sharpness
from advisor.soak.stage import run_soak
from advisor.throughput.stage import run_throughput
from advisor.training.data import Variant, parse_target
from advisor.variants.stage import plan_variants, run_variants

__all__ = ["run_doctor", "run_probe"]


def run_probe(
    spec: ProbeSpec,
    *,
    argv: Sequence[str],
    progress: Progress,
    save: Callable[[RunRecord], None],
) -> RunRecord:
    """Return the complete record of one probe.

    Args:
        spec: What is asked.
        argv: The command line, for the record.
        progress: Told what runs.
        save: Called with the record so far after each result.

    Raises:
        AdvisorError: What ended the run; the record so far was saved, marked incomplete.
    """
    record = open_record(RunRecord, spec, kind="run", argv=tuple(argv))
    record = record.setting(SCENARIO, spec.scenario)
    with Runner(parse_target(spec.workload.target)) as runner:
        run = Run(spec, record=record, runner=runner, progress=progress, save=save)
        with run.completing():
            _run_stages(run, spec.variants)
        return run.record


def run_doctor(device: str) -> Environment:
    """Return what a worker sees of the device and the software, and what starting one costs."""
    with Runner(None) as runner:
        task = EnvironmentTask(device=device)
        runner.run(task, timeout_s=COLD_START_S)  # the first pays for the import of torch
        start = time.perf_counter()
        (environment,) = runner.run(task, timeout_s=COLD_START_S)
        elapsed_s = time.perf_counter() - start
    seen = environment
    counters = (*seen.counters, *read_processor_counters())
    return msgspec.structs.replace(seen, worker_start_s=elapsed_s, counters=counters)


def _run_stages(run: Run, variants: tuple[Variant, ...]) -> None:
    run.progress.stage("starting", left_s=run.left_s)
    read_noise_inputs(run)
    (environment,) = run.runner.run(
        EnvironmentTask(device=run.spec.workload.device), timeout_s=COLD_START_S
    )
    run.keep_environment(environment)
    run.progress.stage("model file", left_s=run.left_s)
    task = InspectTask(workload=run.spec.workload, batch_multiple=run.spec.limits.batch_multiple)
    (facts,) = run.runner.run(task, timeout_s=run.left_s)
    run.keep_workload(facts)
    check_sample_unit(run)
    refuse_impossible_batch(run)
    plan_variants(run, variants)
    run_memory(run)
    refuse_oversized_batch(run)
    run_throughput(run)
    run_noise(run)
    run_sharpness(run)
    run_loader(run)  # the batch is known by now; what follows takes nearly all the time left
    # Where there is no base rate that the trial could start from.
    run_ranged_rate(run, lambda: list_ways(run.of(ADVICE)))
    run_trial(run, lambda: list_ways(run.of(ADVICE)))
    run_soak(run)
    run_memory_savings(run)
    run_variants(run)  # last: each has a promised share, and what the others left
