"""One run in progress: the record so far, the clock, and where results go."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from msgspec.structs import replace

from advisor.device.data import Environment
from advisor.engine.budget import (
    LONGEST_S,
    PATIENCE_S,
    TIME_PLAN,
    UNPLANNED_S,
    TimePlan,
    estimate_needs,
    list_before,
)
from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError
from advisor.engine.record import INTERRUPTED, Conclusions, Failure, Record, Series, Slot, Topic
from advisor.engine.runner import Runner
from advisor.engine.spec import Spec, resolve_limit
from advisor.errors import AdvisorError, InternalError
from advisor.training.data import Script, WorkloadFacts

#: By which a budget may be overdrawn, or by this share of it, so that what runs ends in order; and
#: what is left once that is spent as well.
_LATE_S, _LATE_FRACTION, _LEAST_S = 5.0, 0.05, 0.1

T = TypeVar("T")


class Progress:
    """Receives the stages of a run as they begin; one that inherits shows what it is told."""

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Begin a stage; `left_s` is the most that the whole run may still take."""

    def plan(self, text: str) -> None:
        """Tell how long the run will take, in one line that stays."""

    def note(self, text: str) -> None:
        """Tell one thing that happened, in one line."""


class Run:
    """One command in progress: what its stages share.

    Attributes:
        record: Everything seen so far.
        start_s: Until a worker has the model and a batch, the least seen; 0 where not known.
        budget_s: What the whole command may take; without a limit, as long as the plan says.
        reserved_fraction: Part of it that is kept for a later stage.
        needs: What each stage needs, by the plan.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        runner: Runner,
        progress: Progress,
        record: Record,
        save: Callable[[Conclusions], None],
        held: Sequence[tuple[Slot[Any], Any]] = (),
        began_s: float | None = None,
    ) -> None:
        self.spec, self.record = spec, record
        self.runner, self.progress = runner, progress
        given_s = spec.limits.budget_s
        self.budget_s = UNPLANNED_S if given_s is None else given_s
        self.start_s = self.reserved_fraction = 0.0
        self.needs = estimate_needs(0.0, 0.0)
        self._conclusions = Conclusions(record)
        self._save = save
        self._held: dict[Slot[Any], Any] = dict(held)
        self._started = time.monotonic() if began_s is None else began_s

    def of(self, topic: Topic[T]) -> T | None:
        """Return what follows from the record as it is now."""
        return self.conclusions.of(topic)

    @property
    def conclusions(self) -> Conclusions:
        """All that follows from the record as it is now."""
        if self._conclusions.record is not self.record:
            self._conclusions = Conclusions(self.record)
        return self._conclusions

    def add(self, series: Series[T], *items: T) -> None:
        """Append measurements, and save."""
        self.replace(series, (*self.record.all(series), *items))

    def replace(self, series: Series[T], items: tuple[T, ...]) -> None:
        """Put other measurements in a series' place, and save."""
        self._keep(**{series.name: items})

    def set(self, slot: Slot[T], value: T | None) -> None:
        """Keep a value, and save."""
        self._keep(**{slot.name: value})

    def hold(self, slot: Slot[T], value: T) -> None:
        """Keep a value for later stages of this command alone; it is not saved."""
        self._held[slot] = value

    def held(self, slot: Slot[T]) -> T | None:
        """Return the value held, None where no stage did."""
        value: T | None = self._held.get(slot)
        return value

    @contextmanager
    def completing(self) -> Iterator[None]:
        """Mark the record complete at the end, or say what ended it before."""
        try:
            yield
        except (AdvisorError, KeyboardInterrupt) as error:
            why = error.message if isinstance(error, AdvisorError) else INTERRUPTED
            self._keep(complete=False, stopped_because=why)
            raise
        self._keep(complete=True)

    @contextmanager
    def noting_ends(self, stage: str) -> Iterator[None]:
        """Keep what ends a stage's worker, the time or the system: what it saw before stands."""
        try:
            yield
        except (WorkerTimeoutError, WorkerDeathError) as end:
            self.keep_failure(stage, end)

    def keep_failure(self, stage: str, error: AdvisorError) -> None:
        """Keep what ended a stage, and tell it."""
        fault = "a fault in bsadvisor itself: " if isinstance(error, InternalError) else ""
        failure = Failure(stage=stage, message=fault + error.message, next_step=error.next_step)
        self.progress.note(f"{stage}: {failure.message}")
        self._keep(failures=(*self.record.failures, failure))

    @property
    def left_s(self) -> float:
        """Seconds left of the budget, with those in which what runs may end in order."""
        late_s = min(_LATE_S, _LATE_FRACTION * self.budget_s)
        last_s = self.budget_s + late_s - self._elapsed_s
        return max(self.unspent_s, min(late_s, last_s), _LEAST_S)

    @property
    def is_spent(self) -> bool:
        """Whether the budget is used up."""
        return self.unspent_s <= 0.0

    @property
    def unspent_s(self) -> float:
        """Seconds left of the budget, negative once it is overdrawn: what may still be planned."""
        return self.budget_s * (1.0 - self.reserved_fraction) - self._elapsed_s

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def share_s(self, stage: str) -> float:
        """Return what a stage may plan with of the time left, beside those after it.

        0 where it is left out.
        """
        return self.needs.share_out(self.unspent_s, first=stage).get(stage, 0.0)

    def has_time_for(self, stage: str) -> bool:
        """Return whether a stage is not left out for want of time."""
        is_planned = stage in self.needs.stages
        return not is_planned or stage in self.needs.share_out(self.unspent_s, first=stage)

    def plan(self, step_s: float, *, first: str | None = None) -> TimePlan:
        """Plan the time of the stages from the first on, by that of a step of the user's own batch.

        The plan is kept.
        """
        limits, has_data = self.spec.limits, self.facts.has_dataset
        is_file = self.spec.workload.script is None  # a script's steps load, and none is traced
        asked = {
            "sharpness": limits.sharpness and has_data,
            "loader": has_data and is_file,
            "ranks": self.spec.workload.ranks > 1,
            "memory savings": is_file,
            **dict.fromkeys(("noise", "trial"), has_data),
        }
        without = {stage for stage, is_asked in asked.items() if not is_asked}
        self.needs = needs = estimate_needs(
            self.start_s, step_s, without=without.union(list_before(first)), is_script=not is_file
        )
        open_s, free_fraction = sum(needs.stages.values()), 1.0 - self.reserved_fraction
        needed_s = (self._elapsed_s + open_s) / free_fraction
        enough_s = (self._elapsed_s + needs.enough_s) / free_fraction
        if limits.budget_s is None:
            self.budget_s = min(LONGEST_S, needed_s, max(PATIENCE_S, enough_s))
        plan = TimePlan(
            start_s=self.start_s,
            step_s=step_s,
            needs_s=needs.stages,
            shares_s=needs.share_out(min(open_s, self.unspent_s)),
            needed_s=needed_s,
            budget_s=min(self.budget_s, needed_s),
            enough_s=enough_s,
        )
        self.set(TIME_PLAN, plan)
        return plan

    def take_more(self, stage: str, more_s: float, *, taken_s: float = 0.0) -> bool:
        """Take more time than planned, beyond what was taken so, and return whether that may be.

        What is close to an answer may up to the stage's need, and as long as the run waits no
        longer than a user does who gave no budget; not where one was given, nor where the plan was
        kept short of what the model takes.
        """
        if more_s <= 0.0:
            return True
        plan = self.record.get(TIME_PLAN)
        if plan is None or self.spec.limits.budget_s is not None or plan.budget_s < plan.needed_s:
            return False
        budget_s = self.budget_s + more_s / (1.0 - self.reserved_fraction)
        if budget_s > PATIENCE_S and taken_s + more_s > plan.needs_s.get(stage, 0.0):
            return False
        self.budget_s = min(LONGEST_S, budget_s)
        self.set(TIME_PLAN, replace(plan, needed_s=self.budget_s, budget_s=self.budget_s))
        return True

    @property
    def environment(self) -> Environment:
        """The environment, known to every stage."""
        assert self.record.environment is not None
        return self.record.environment

    @property
    def facts(self) -> WorkloadFacts:
        """The workload, known to every stage."""
        assert self.record.workload is not None
        return self.record.workload

    @property
    def capacity_bytes(self) -> int:
        """What training may take."""
        command = self.record.command
        assert command.memory_limit_bytes is not None
        capacity_bytes = command.memory_limit_bytes - command.headroom_bytes
        script = self.spec.workload.script
        if script is None or self.environment.device.kind != "cpu":
            return capacity_bytes
        return capacity_bytes // (script.local_ranks or script.ranks)  # on one machine's memory

    def keep_environment(self, environment: Environment) -> None:
        """Keep the environment and the limits in force; UsageError where these leave nothing."""
        limit, headroom = resolve_limit(self.spec, environment)
        command = replace(self.record.command, memory_limit_bytes=limit, headroom_bytes=headroom)
        self._keep(environment=environment, command=command)

    def keep_workload(self, facts: WorkloadFacts) -> None:
        """Keep what the user's file was understood to be; later workers need not find it again."""
        closure = None if facts.optimizer is None else facts.optimizer.closure_use
        workload = replace(
            self.spec.workload, closure=closure, smallest_batch=facts.min_micro_batch_size
        )
        self.spec = replace(self.spec, workload=workload)
        cap, command = facts.allocator_cap_bytes, self.record.command
        if cap is not None and cap < self.capacity_bytes:  # it leaves the rest free by itself
            command = replace(command, memory_limit_bytes=cap, headroom_bytes=0)
        self._keep(workload=facts, command=command)

    def keep_script(self, script: Script) -> None:
        """Go on with what was learnt of the user's script: batches are multiples of its parts."""
        limits = self.spec.limits
        limits = replace(limits, batch_multiple=math.lcm(limits.batch_multiple, script.parts))
        workload = replace(self.spec.workload, script=script)
        self.spec = replace(self.spec, workload=workload, limits=limits)
        self._keep(command=replace(self.record.command, limits=limits))

    def keep_files(self, names: tuple[str, ...]) -> None:
        """Keep which files a script wrote."""
        if names:
            self._keep(written_files=names)

    def _keep(self, **changes: object) -> None:
        self.record = replace(self.record, **changes, elapsed_s=self._elapsed_s)
        self._save(self.conclusions)
