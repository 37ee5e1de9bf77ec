"""A recorded run that answers in place of workers: the stages run over it and nothing is measured.

So drift, throttling, outliers and neighbours can be put before the real search and analysis on any
machine. What was not recorded is an error, never a guess.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from advisor.device.data import DeviceFacts, Telemetry
from advisor.engine.record import Record
from advisor.engine.task import EnvironmentTask, InspectTask, Task
from advisor.errors import UsageError
from advisor.loader.data import LoaderTask, LoopTask
from advisor.memory.data import MemoryTask, Probe
from advisor.noise.data import NoiseTask
from advisor.rate.data import TrialTask
from advisor.rate.range_data import LrRangeTask
from advisor.soak.data import SoakTask
from advisor.throughput.data import ThroughputTask

Results = tuple[Any, ...]


class NotRecordedError(UsageError):
    """The recording does not hold what a task asks for."""


class RecordingEndError(NotRecordedError):
    """The recording ends before what is asked for; what came before stands."""


class ReplayRunner:
    """Answers tasks from a record, as `Runner` does with workers.

    Tasks that a run may repeat (memory at one size, noise, soak, loader) get the recorded results
    one after the other.

    Args:
        record: The recorded run.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._served: set[int] = set()
        self._answers: dict[type, Callable[[Any], Results]] = {
            EnvironmentTask: lambda _: self._one("environment", record.environment),
            InspectTask: lambda _: self._one("inspection", record.workload),
            MemoryTask: self._memory,
            ThroughputTask: self._throughput,
            NoiseTask: lambda _: self._all("noise", record.noise_batches),
            TrialTask: self._trial,
            SoakTask: self._soak,
            LoaderTask: self._loader,
            LoopTask: self._loop,
            LrRangeTask: lambda _: self._all("range test", record.lr_ranges),
        }

    def run(
        self,
        task: Task[Any],
        *,
        timeout_s: float,  # a replay takes no time
        on_result: Callable[[Any], None] | None = None,
    ) -> Results:
        """Return what the recording holds for the task, in the order it was recorded.

        Args:
            task: What to answer.
            timeout_s: Not used.
            on_result: Called with each result.

        Raises:
            RecordingEndError: The recording ends before that session or repetition.
            NotRecordedError: It holds nothing of the kind, as of a size that was not timed.
        """
        answer = self._answers.get(type(task))
        if answer is None:
            raise NotRecordedError(f"a recording cannot answer {type(task).__name__}")
        results = answer(task)
        for result in results:
            if on_result is not None:
                on_result(result)
        return results

    @contextmanager
    def watched(self, device: DeviceFacts, *, session: int) -> Iterator[Callable[[], Telemetry]]:
        """Yield a function that returns the recorded counters of the session, empty without any.

        Args:
            device: Not used.
            session: Number of the session.
        """
        recorded = [each for each in self._record.telemetry if each.session == session]
        yield lambda: recorded[0] if recorded else Telemetry(session=session)

    def _memory(self, task: MemoryTask) -> Results:
        size = task.micro_batch_size
        probes = [p for p in self._of_stage("memory") if p.micro_batch_size == size]
        return self._next(f"memory at batch {size}", probes)

    def _throughput(self, task: ThroughputTask) -> Results:
        probes = self._of_stage("throughput")
        sessions = sorted({probe.session for probe in probes})
        if task.session not in sessions:
            raise RecordingEndError(
                f"the recording ends: session {task.session} is asked for, it holds "
                f"{len(sessions)} sessions"
            )
        timed = {p.micro_batch_size: p for p in probes if p.session == task.session}
        missing = [size for size in task.micro_batch_sizes if size not in timed]
        if missing:
            raise NotRecordedError(
                f"session {task.session} of the recording did not time batch "
                f"{', '.join(map(str, missing))}"
            )
        return tuple(timed[size] for size in sorted(task.micro_batch_sizes))

    def _trial(self, task: TrialTask) -> Results:
        asked = msgspec.structs.asdict(task)
        names = (
            "micro_batch_size", "gradient_accumulation_steps", "learning_rate", "beta2",
            "weight_decay",
        )  # fmt: skip
        found = {
            (branch.seed, branch.samples): branch
            for branch in self._record.trials
            if all(getattr(branch, name) == asked[name] for name in names)
        }
        lengths = (task.samples, *task.shorter_samples)
        wanted = [(seed, samples) for seed in task.seeds for samples in lengths]
        missing = {seed: None for seed, samples in wanted if (seed, samples) not in found}
        if missing:
            raise NotRecordedError(
                f"the recording has no trial of batch {task.micro_batch_size} at rate "
                f"{task.learning_rate:g} with seed {', '.join(map(str, missing))}"
            )
        return tuple(found[each] for each in wanted)

    def _soak(self, task: SoakTask) -> Results:
        asked = (task.micro_batch_size, task.gradient_accumulation_steps)
        soaks = [
            soak
            for soak in self._record.soaks
            if (soak.micro_batch_size, soak.gradient_accumulation_steps) == asked
        ]
        return self._next(f"a longer run at batch {task.micro_batch_size}", soaks)

    def _loader(self, task: LoaderTask) -> Results:
        size = task.micro_batch_size
        timings = [t for t in self._record.loader_timings if t.micro_batch_size == size]
        return self._all(f"the loader at batch {size}", timings)

    def _loop(self, task: LoopTask) -> Results:
        sizes = set(task.micro_batch_sizes)
        found = [t for t in self._record.loop_timings if sizes <= set(t.micro_batch_sizes)]
        return self._next(f"the loop at batches {sorted(sizes)}", found)

    def _of_stage(self, stage: str) -> list[Probe]:
        return [probe for probe in self._record.probes if probe.stage == stage]

    def _one(self, what: str, result: msgspec.Struct | None) -> Results:
        if result is None:
            raise NotRecordedError(f"the recording has no {what}")
        return (result,)

    def _next(self, what: str, results: Sequence[msgspec.Struct]) -> Results:
        """Return the first of the results that was not given yet."""
        if not results:
            raise NotRecordedError(f"the recording has nothing of {what}")
        left = [result for result in results if id(result) not in self._served]
        if not left:
            raise RecordingEndError(f"the recording ends: no more of {what}")
        self._served.add(id(left[0]))
        return (left[0],)

    def _all(self, what: str, results: Sequence[msgspec.Struct]) -> Results:
        """Return all of the results, once."""
        first = self._next(what, results)
        self._served.update(map(id, results))
        return (*first, *(result for result in results if result is not first[0]))
