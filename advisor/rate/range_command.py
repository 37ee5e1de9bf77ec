"""`bsadvisor lr-range`: the range test at one batch, and the trial of the rate that it suggests."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from advisor import __version__
from advisor.engine.commands import LrRangeSpec
from advisor.engine.opening import EnvironmentTask, InspectTask
from advisor.engine.progress import Progress
from advisor.engine.recording import Recording
from advisor.engine.runner import COLD_START_S, Runner, TaskRunner
from advisor.errors import UsageError
from advisor.rate.range_record import LrRangeCommand, LrRangeRecord
from advisor.rate.range_stage import HIGH_FACTOR, LOW_FACTOR, Search, make_range_task, search_rate
from advisor.training.data import WorkloadFacts, parse_target

#: The batch where neither the user nor the model file names one.
_USUAL_BATCH = 32
#: The range must span this much at least: below, noise decides where the loss is lowest.
_LEAST_SPAN = 10.0


def _empty_record(spec: LrRangeSpec, argv: Sequence[str]) -> LrRangeRecord:
    return LrRangeRecord(
        tool_version=__version__,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        complete=False,
        command=LrRangeCommand(
            argv=tuple(argv),
            seed=spec.workload.seed,
            precision=spec.workload.precision,
            settings=spec.workload.settings,
            steps=spec.steps,
            seeds=spec.seeds,
            budget_s=spec.budget_s,
        ),
    )


def run_lr_range(
    spec: LrRangeSpec,
    *,
    argv: Sequence[str],
    progress: Progress,
    save: Callable[[LrRangeRecord], None],
) -> LrRangeRecord:
    """Return the complete record of one range test and of the trial after it.

    Args:
        spec: What is asked.
        argv: The command line, for the record.
        progress: Told what runs.
        save: Called with the record so far after each result.

    Raises:
        AdvisorError: What ended it; the record so far was saved, marked incomplete.
    """
    with Runner(parse_target(spec.workload.target)) as runner:
        run = Recording(_empty_record(spec, argv), spec.budget_s, save)
        with run.completing():
            _run_stages(run, spec, runner, progress)
        return run.record


def _run_stages(
    run: Recording[LrRangeRecord], spec: LrRangeSpec, runner: TaskRunner, progress: Progress
) -> None:
    progress.stage("starting", left_s=run.left_s)
    (seen,) = runner.run(EnvironmentTask(device=spec.workload.device), timeout_s=COLD_START_S)
    run.keep(environment=seen)
    progress.stage("model file", left_s=run.left_s)
    (found,) = runner.run(InspectTask(workload=spec.workload), timeout_s=run.left_s)
    facts = found
    command = resolve_command(spec, run.record.command, facts)
    run.keep(workload=facts, command=command)
    search = Search(
        workload=spec.workload,
        facts=facts,
        runner=runner,
        progress=progress,
        left_s=lambda: run.left_s,
        keep_curve=lambda curve: run.keep(lr_ranges=(*run.record.lr_ranges, curve)),
        keep_trial=lambda branch: run.keep(trials=(*run.record.trials, branch)),
    )
    assert command.micro_batch_size is not None
    assert command.gradient_accumulation_steps is not None
    assert command.low_rate is not None
    assert command.high_rate is not None
    task = make_range_task(
        search,
        micro_batch_size=command.micro_batch_size,
        gradient_accumulation_steps=command.gradient_accumulation_steps,
        low_rate=command.low_rate,
        high_rate=command.high_rate,
        steps=spec.steps,
        seeds=spec.seeds,
    )
    search_rate(search, task)


def resolve_command(
    spec: LrRangeSpec, command: LrRangeCommand, facts: WorkloadFacts
) -> LrRangeCommand:
    """Return what was asked with its defaults filled in.

    Raises:
        UsageError: The model file gives nothing to learn from, or batch or range are impossible.
    """
    _refuse_unlearnable(facts)
    size = _choose_batch(spec, facts)
    micro = spec.micro_batch_size or size
    if size % micro:
        raise UsageError(
            f"--micro-batch-size {micro} does not divide the batch of {size}",
            next_step="Give a divisor of it, or another --global-batch-size.",
        )
    if micro < facts.min_micro_batch_size:
        raise UsageError(
            f"the model does not train at micro-batch {micro}",
            next_step=f"Give {facts.min_micro_batch_size} or more.",
        )
    assert facts.optimizer is not None
    if facts.optimizer.needs_closure and micro != size:
        raise UsageError(
            f"{facts.optimizer.name} evaluates its batch again, which cannot be split",
            next_step="Leave out --micro-batch-size.",
        )
    low, high = _choose_rates(spec, facts.optimizer.learning_rate or 0.0)
    return msgspec.structs.replace(
        command,
        micro_batch_size=micro,
        gradient_accumulation_steps=size // micro,
        global_batch_size=size,
        low_rate=low,
        high_rate=high,
    )


def _refuse_unlearnable(facts: WorkloadFacts) -> None:
    if facts.is_step_only:
        raise UsageError(
            f"{facts.file} has make_step, which keeps its optimizer to itself",
            next_step="Write make_model, make_dataset and make_optimizer for a range test.",
        )
    if not facts.has_dataset:
        raise UsageError(
            f"{facts.file} has no make_dataset, and synthetic batches leave nothing to learn",
            next_step="Add make_dataset to the model file.",
        )
    if facts.optimizer is None or facts.optimizer.learning_rate is None:
        raise UsageError(
            f"the optimizer of {facts.file} has no learning rate",
            next_step="Give one whose parameter groups have `lr`.",
        )


def _choose_batch(spec: LrRangeSpec, facts: WorkloadFacts) -> int:
    asked, most = spec.global_batch_size, facts.dataset_size
    if asked is not None and most is not None and asked > most:
        raise UsageError(
            f"--global-batch-size {asked} is more than the dataset's {most} {facts.sample_unit}s",
            next_step=f"Give {most} or less.",
        )
    if asked is not None:
        return asked
    size = max(facts.base_batch_size or _USUAL_BATCH, facts.min_micro_batch_size)
    size = size if most is None else min(size, most)
    micro = spec.micro_batch_size or 1
    return max(size // micro, 1) * micro


def _choose_rates(spec: LrRangeSpec, own_rate: float) -> tuple[float, float]:
    """Return the ends of the range, those not asked for around the optimizer's own rate."""
    if own_rate <= 0.0 and (spec.low_rate is None or spec.high_rate is None):
        raise UsageError(
            "the optimizer's own rate is 0, which a range cannot be built around",
            next_step="Give --from and --to.",
        )
    low = spec.low_rate if spec.low_rate is not None else own_rate * LOW_FACTOR
    high = spec.high_rate if spec.high_rate is not None else own_rate * HIGH_FACTOR
    if high < low * _LEAST_SPAN:
        raise UsageError(
            f"the range from {low:.3g} to {high:.3g} is too narrow",
            next_step="Let --to be at least ten times --from.",
        )
    return low, high
