"""One prediction: the model is traced here, the cards are looked up; nothing runs on them."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from advisor import __version__
from advisor.device.catalogue import Gpu, describe_stated_gpu, find_gpu
from advisor.engine.commands import PredictSpec
from advisor.engine.opening import EnvironmentTask, InspectTask
from advisor.engine.progress import Progress
from advisor.engine.runner import Runner, TaskRunner
from advisor.errors import AdvisorError, UsageError
from advisor.predict.change_traces import trace_changes
from advisor.predict.changes import is_optimizer_decisive
from advisor.predict.data import PredictedMemory, Prediction, TraceTask, WhatIf
from advisor.predict.footprint import find_general
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.pieces import derive_pieces
from advisor.predict.prediction import choose_next_size, derive_predictions, find_ceiling
from advisor.predict.record import PredictCommand, PredictRecord
from advisor.training.data import parse_target

#: Importing torch on a cold disk is not the user's time to budget.
_START_S = 300.0
#: No stage gets less: a budget that is spent still lets what runs end in order.
_LEAST_S = 5.0
#: Traces where none serves every size: the first two, and some near the sizes that matter.
_MOST_TRACES = 6

Save = Callable[[PredictRecord], None]


def run_predict(
    spec: PredictSpec, *, argv: Sequence[str], progress: Progress, save: Save
) -> PredictRecord:
    """Return the complete record of one prediction.

    Args:
        spec: What is asked; the workload's device does not count, its model is traced on the CPU.
        argv: The command line, for the record.
        progress: Told what runs.
        save: Called with the record so far after each result.

    Raises:
        AdvisorError: What ended it; the record so far was saved, marked incomplete.
    """
    gpus = choose_gpus(spec)
    target = parse_target(spec.workload.target)
    workload = msgspec.structs.replace(spec.workload, device="cpu")
    with Runner(target) as runner:
        tracing = _Tracing(
            spec=msgspec.structs.replace(spec, workload=workload),
            gpus=gpus,
            runner=runner,
            progress=progress,
            record=_empty_record(spec, gpus, argv),
            save=save,
        )
        try:
            tracing.run()
        except AdvisorError as error:
            tracing.keep(stopped_because=error.message)
            raise
        except KeyboardInterrupt:
            tracing.keep(stopped_because="interrupted")
            raise
        tracing.keep(complete=True)
        return tracing.record


def choose_gpus(spec: PredictSpec) -> tuple[Gpu, ...]:
    """Return the cards that are asked for, each once.

    Raises:
        UsageError: A name is not in the catalogue, or no card was asked for.
    """
    gpus = _cards(spec.gpus, spec.gpu_memory_bytes)
    if not gpus:
        raise UsageError(
            "predict needs a GPU to predict for",
            next_step="Give --gpu NAME (--list-gpus prints the names) or --gpu-memory 24GiB.",
        )
    return gpus


class Predictor:
    """Predicts from records; what depends on the same traces is computed once."""

    def __init__(self) -> None:
        self._traces: tuple[MemoryTrace, ...] = ()
        self._what_ifs: tuple[WhatIf, ...] = ()
        self._predictions: tuple[Prediction, ...] = ()

    def predict(self, record: PredictRecord) -> tuple[Prediction, ...]:
        """Return what the record's traces support, by the catalogue as it is now.

        Raises:
            UsageError: The catalogue no longer has one of the cards.
        """
        if record.traces is not self._traces or record.what_ifs is not self._what_ifs:
            gpus = _cards(record.command.gpus, record.command.gpu_memory_bytes)
            self._predictions = derive_predictions(record, gpus)
            self._traces, self._what_ifs = record.traces, record.what_ifs
        return self._predictions


def _cards(names: Sequence[str], memory_bytes: Sequence[int]) -> tuple[Gpu, ...]:
    named = [find_gpu(name) for name in names]
    stated = [describe_stated_gpu(size) for size in memory_bytes]
    return tuple({gpu.name: gpu for gpu in [*named, *stated]}.values())


def _empty_record(spec: PredictSpec, gpus: Sequence[Gpu], argv: Sequence[str]) -> PredictRecord:
    return PredictRecord(
        tool_version=__version__,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        complete=False,
        command=PredictCommand(
            argv=tuple(argv),
            seed=spec.workload.seed,
            precision=spec.workload.precision,
            compile=spec.workload.compile,
            settings=spec.workload.settings,
            gpus=tuple(gpu.name for gpu in gpus if gpu.memory_source != "stated"),
            gpu_memory_bytes=spec.gpu_memory_bytes,
            micro_batch_size=spec.micro_batch_size,
            headroom_bytes=spec.headroom_bytes,
            expandable_segments=spec.expandable_segments,
            max_micro_batch_size=spec.max_micro_batch_size,
            batch_multiple=spec.batch_multiple,
        ),
    )


class _Tracing:
    """The stages of one prediction and the record that they fill."""

    def __init__(
        self,
        *,
        spec: PredictSpec,
        gpus: tuple[Gpu, ...],
        runner: TaskRunner,
        progress: Progress,
        record: PredictRecord,
        save: Save,
    ) -> None:
        self.record = record
        self._spec, self._gpus = spec, gpus
        self._runner, self._progress, self._save = runner, progress, save
        self._started = time.monotonic()

    def run(self) -> None:
        """Fill the record: machine, model file, traces."""
        self._progress.stage("starting", left_s=self._left_s)
        (environment,) = self._runner.run(EnvironmentTask(device="cpu"), timeout_s=_START_S)
        self.keep(environment=environment)
        self._progress.stage("model file", left_s=self._left_s)
        task = InspectTask(
            workload=self._spec.workload,
            batch_multiple=self._spec.batch_multiple,
            without_steps=True,
        )
        (facts,) = self._runner.run(task, timeout_s=self._left_s)
        self.keep(workload=facts)
        self._trace(None)
        for _ in range(_MOST_TRACES - 1):
            size = choose_next_size(self.record, self._gpus)
            if size is None or self._is_spent:
                break
            self._trace(size)
        self._trace_what_ifs()

    def keep(self, **changes: object) -> None:
        """Put changes into the record and save it."""
        elapsed_s = time.monotonic() - self._started
        self.record = msgspec.structs.replace(self.record, elapsed_s=elapsed_s, **changes)
        self._save(self.record)

    def _trace(self, size: int | None) -> None:
        at = "" if size is None else f" at batch {size}"
        self._progress.stage(f"tracing{at}", left_s=self._left_s)
        traces = self._runner.run(self._trace_task(size), timeout_s=self._left_s)
        added = tuple(trace for trace in traces)
        self.keep(traces=(*self.record.traces, *added))

    def _trace_what_ifs(self) -> None:
        """Trace with one change each, where one trace serves every size."""
        base = find_general(self.record.traces)
        if base is None or base.method != "symbolic":
            return
        memory = derive_pieces(base)
        what_ifs = trace_changes(
            self._trace_task(None),
            with_optimizer=is_optimizer_decisive(memory, self._estimate_sizes(memory)),
            runner=self._runner,
            progress=self._progress,
            left_s=lambda: self._spec.budget_s - (time.monotonic() - self._started),
        )
        self.keep(what_ifs=what_ifs)

    def _estimate_sizes(self, memory: PredictedMemory) -> Iterator[int]:
        """Yield sizes around those that the figures will be for, without the allocator."""
        if self._spec.micro_batch_size is not None:
            yield self._spec.micro_batch_size
        for gpu in self._gpus:
            most = min(memory.predict_largest(gpu.usable_bytes), find_ceiling(self.record))
            yield from (max(1, most // 2), max(1, most))

    def _trace_task(self, size: int | None) -> TraceTask:
        facts = self.record.workload
        assert facts is not None
        return TraceTask(
            workload=self._spec.workload,
            operators="cuda",
            largest_samples=facts.largest_samples,
            micro_batch_size=size,
            min_micro_batch_size=facts.min_micro_batch_size,
            batch_multiple=self._spec.batch_multiple,
        )

    @property
    def _left_s(self) -> float:
        return max(_LEAST_S, self._spec.budget_s - (time.monotonic() - self._started))

    @property
    def _is_spent(self) -> bool:
        return time.monotonic() - self._started >= self._spec.budget_s
