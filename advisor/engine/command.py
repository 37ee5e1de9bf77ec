"""One command from its start to its record: the machine, the model file, then every question."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from advisor.device.data import Environment
from advisor.device.processor import read_processor_counters
from advisor.engine.nodes import Leader
from advisor.engine.question import Kind
from advisor.engine.record import Conclusions, Record, Series, Slot, open_record
from advisor.engine.run import Progress, Run
from advisor.engine.runner import COLD_START_S, Runner
from advisor.engine.spec import Spec
from advisor.engine.task import EnvironmentTask, InspectTask, ScriptTask, Task
from advisor.errors import (
    DeviceError,
    GivenFileError,
    InternalError,
    UsageError,
    WorkloadError,
)
from advisor.training.data import WorkloadSpec, parse_target
from advisor.training.script.facts import conclude_facts
from advisor.training.script.sight import choose_other_filling, choose_own_filling

T = TypeVar("T")

#: What one command alone is asked, by its key.
Asked = Sequence[tuple[Slot[Any] | Series[Any], Any]]
Held = Sequence[tuple[Slot[Any], Any]]


def execute(
    kind: Kind,
    spec: Spec,
    *,
    argv: Sequence[str],
    progress: Progress,
    save: Callable[[Conclusions], None],
    asked: Asked = (),
    held: Held = (),
    began_s: float | None = None,
    shows_output: bool = False,
    leader: Leader | None = None,
) -> Record:
    """Return the complete record.

    The questions are asked in their order. `save` gets the record with what follows from it after
    each result; `asked` is in it from the start, `held` is what the command alone is to know.
    `began_s` is by the monotonic clock; None is now.

    Raises:
        UsageError: Nothing as was asked can be kept.
        AdvisorError: What ended it; the record so far was saved, marked incomplete.
    """
    record = open_record(kind.record_type, spec, kind=kind.name, argv=tuple(argv))
    record = replace(record, **{key.name: value for key, value in asked})
    try:
        for each in (spec, record):  # as it is sent to a worker and read again
            msgspec.convert(msgspec.to_builtins(each), type(each))
    except msgspec.ValidationError as error:
        raise UsageError(
            f"an option is beyond what can be measured: {error}", next_step="Give one within that."
        ) from error
    target = parse_target(spec.workload.target)
    with Runner(target, leader, shows_output=shows_output) as runner:
        run = Run(
            spec,
            record=record,
            runner=runner,
            progress=progress,
            save=save,
            held=held,
            began_s=began_s,
        )
        with run.completing():
            try:
                if leader is not None:
                    progress.stage("waiting for the other nodes", left_s=leader.nodes.join_s)
                    leader.gather(runner.break_off, progress.note)
                progress.stage("starting", left_s=spec.limits.budget_s)
                _ask(run, kind)
            finally:
                if spec.workload.script is not None:
                    run.keep_files(runner.written_files)
        return run.record


def _ask(run: Run, kind: Kind) -> None:
    """Ask the questions: each of their parts in turn, before the next part of any."""
    for question in kind.questions:
        if question.read is not None:
            question.read(run)
    _open(run, kind)
    for question in kind.questions:
        if question.check is not None:
            question.check(run)
    for question in kind.questions:
        if question.run is not None and run.has_time_for(question.name):
            with _limiting_failure(run, question.name, is_alone=question.fails_alone):
                question.run(run)
    _use_time_left(run, kind)


def _use_time_left(run: Run, kind: Kind) -> None:
    """Go round the questions until one round did nothing, or the time is up.

    The last comes first: what is advised rests on all that is before it, and is open the longest.
    """
    did = True
    while did:
        did = False
        failed = {failure.stage for failure in run.record.failures}
        for question in reversed(kind.questions):
            if question.more is not None and question.name not in failed and not run.is_spent:
                with _limiting_failure(run, question.name, is_alone=True):
                    did |= question.more(run)


@contextmanager
def _limiting_failure(run: Run, stage: str, *, is_alone: bool) -> Iterator[None]:
    """Have a failure end the stage alone, where what the others tell stands without it."""
    try:
        yield
    except (WorkloadError, DeviceError, InternalError) as error:
        if not is_alone or isinstance(error, GivenFileError):
            raise
        run.keep_failure(stage, error)


def _open(run: Run, kind: Kind) -> None:
    spec = run.spec.workload
    _keep_environment(run, EnvironmentTask(device=spec.device))
    if spec.script is not None:
        _open_script(run, spec)
        return
    multiple = run.spec.limits.batch_multiple
    task = InspectTask(workload=spec, batch_multiple=multiple, without_steps=kind.traces_only)
    facts = _start(run, task, "model file")
    if facts.device_uuid_hash not in {None, run.environment.device.uuid_hash}:
        # As by CUDA_VISIBLE_DEVICES.
        _keep_environment(run, EnvironmentTask(device=spec.device, after=spec))
        run.progress.note(f"{spec.target} chooses its own card: {run.environment.device.name}")
    run.keep_workload(facts)


def _keep_environment(run: Run, task: EnvironmentTask) -> None:
    (environment,) = run.runner.run(task, timeout_s=run.left_s)
    run.keep_environment(environment)


def _open_script(run: Run, workload: WorkloadSpec) -> None:
    """Keep what the script is: started with its own batch, then with another that it is told.

    Raises:
        WorkloadError: It fails, takes no optimizer step, or does not listen to its placeholders.
    """
    task = ScriptTask(workload=workload, filling=choose_own_filling(workload))
    what = "model file" if workload.script and workload.script.model_file else "script"
    own = _start(run, task, f"your {what} as it is")
    filling = choose_other_filling(workload, own)
    task = ScriptTask(workload=workload, filling=filling)
    other = _start(run, task, f"your {what} with batch {filling.batch_size}")
    facts = conclude_facts(workload, own, other)
    assert facts.script is not None
    run.keep_script(facts.script.script)
    run.keep_workload(facts)


def _start(run: Run, task: Task[T], what: str) -> T:
    """Return the one result of a task, and keep how long its worker took."""
    run.progress.stage(what, left_s=run.spec.limits.budget_s and run.left_s)
    started = time.monotonic()
    try:
        (found,) = run.runner.run(task, timeout_s=run.left_s)
    except msgspec.ValidationError as error:  # the user's own settings, and nothing measured
        raise WorkloadError(
            f"{run.spec.workload.target}: a setting is beyond what can be measured: {error}",
            next_step="Give one within that.",
        ) from error
    start_s = time.monotonic() - started
    run.start_s = min(start_s, run.start_s or start_s)
    return found


def examine(device: str) -> Environment:
    """Return what a worker sees of the device and the software, and what starting one costs."""
    with Runner(None) as runner:
        task = EnvironmentTask(device=device)
        runner.run(task, timeout_s=COLD_START_S)  # the first pays for the import of torch
        start = time.perf_counter()
        (environment,) = runner.run(task, timeout_s=COLD_START_S)
        elapsed_s = time.perf_counter() - start
    counters = (*environment.counters, *read_processor_counters())
    return replace(environment, worker_start_s=elapsed_s, counters=counters)
