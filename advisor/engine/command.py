"""One command from its start to its record: the machine, the model file, then every question."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from advisor.device.data import Environment
from advisor.device.processor import read_processor_counters
from advisor.engine.conclusions import Conclusions
from advisor.engine.leading import Leader
from advisor.engine.opening import EnvironmentTask, InspectTask, ScriptTask
from advisor.engine.progress import Progress
from advisor.engine.question import Kind
from advisor.engine.record import Record, Series, Slot, open_record
from advisor.engine.run import Run
from advisor.engine.runner import COLD_START_S, Runner
from advisor.engine.spec import Spec
from advisor.engine.task import Task
from advisor.errors import (
    DeviceError,
    GivenFileError,
    InternalError,
    UsageError,
    WorkloadError,
)
from advisor.training.data import parse_target
from advisor.training.script.arguments import Filling
from advisor.training.script.facts import conclude_facts
from advisor.training.script.sight import ScriptSight, choose_other_filling, choose_own_filling

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
    _refuse_impossible(spec, record)
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
                _gather(leader, runner, progress)
                run.progress.stage("starting", left_s=spec.limits.budget_s)
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
            finally:
                if spec.workload.script is not None:
                    run.keep_files(runner.written_files)
        return run.record


def _refuse_impossible(spec: Spec, record: Record) -> None:
    """Raise UsageError where what was asked could be neither sent to a worker nor read again."""
    try:
        for asked in (spec, record):
            msgspec.convert(msgspec.to_builtins(asked), type(asked))
    except msgspec.ValidationError as error:
        raise UsageError(
            f"an option is beyond what can be measured: {error}", next_step="Give one within that."
        ) from error


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


def _gather(leader: Leader | None, runner: Runner, progress: Progress) -> None:
    """Have the other nodes, if any, at hand."""
    if leader is not None:
        progress.stage("waiting for the other nodes", left_s=leader.nodes.join_s)
        leader.gather(runner.break_off)


def _open(run: Run, kind: Kind) -> None:
    """Keep what machine this is, and what the model file is."""
    (environment,) = run.runner.run(
        EnvironmentTask(device=run.spec.workload.device), timeout_s=COLD_START_S
    )
    run.keep_environment(environment)
    if run.spec.workload.script is not None:
        open_script(run)
        return
    run.progress.stage("model file", left_s=run.spec.limits.budget_s and run.left_s)
    task = InspectTask(
        workload=run.spec.workload,
        batch_multiple=run.spec.limits.batch_multiple,
        without_steps=kind.traces_only,
    )
    try:
        facts = _start(run, task)
    except msgspec.ValidationError as error:  # the user's own settings, and nothing measured
        raise WorkloadError(
            f"{run.spec.workload.target}: a setting is beyond what can be measured: {error}",
            next_step="Give one within that.",
        ) from error
    if facts.device_uuid_hash not in {None, environment.device.uuid_hash}:
        spec = run.spec.workload  # as by CUDA_VISIBLE_DEVICES
        chosen = EnvironmentTask(device=spec.device, after=spec)
        (environment,) = run.runner.run(chosen, timeout_s=run.left_s)
        run.keep_environment(environment)
        run.progress.note(f"{spec.target} chooses its own card: {environment.device.name}")
    run.keep_workload(facts)


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


def open_script(run: Run) -> None:
    """Keep what the script is: started with its own batch, then with another that it is told.

    Raises:
        WorkloadError: It fails, takes no optimizer step, or does not listen to its placeholders.
    """
    workload = run.spec.workload
    own = _see(run, choose_own_filling(workload), "as it is")
    filling = choose_other_filling(workload, own)
    other = _see(run, filling, f"with batch {filling.batch_size}")
    facts = conclude_facts(workload, own, other)
    assert facts.script is not None
    run.keep_script(facts.script.script)
    run.keep_workload(facts)


def _see(run: Run, filling: Filling, how: str) -> ScriptSight:
    run.progress.stage(f"your script {how}", left_s=run.spec.limits.budget_s and run.left_s)
    return _start(run, ScriptTask(workload=run.spec.workload, filling=filling))


def _start(run: Run, task: Task[T]) -> T:
    """Return the one result of a task, and keep how long its worker took."""
    started = time.monotonic()
    (found,) = run.runner.run(task, timeout_s=run.left_s)
    start_s = time.monotonic() - started
    run.start_s = min(start_s, run.start_s or start_s)
    return found
