"""The variants stage: other precisions, compiled or not, measured as the run itself was."""

import time
from collections.abc import Sequence

import msgspec

from advisor.advice.plan import ADVICE
from advisor.engine.budget import (
    LOSSES_OF_VARIANTS,
    NEEDS,
    TIME_PLAN,
    VARIANT_OF_BUDGET,
    VARIANTS_OF_BUDGET,
    estimate_needs,
)
from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.progress import Progress
from advisor.engine.record import open_record
from advisor.engine.run import Run
from advisor.errors import AdvisorError
from advisor.memory.data import PROBES
from advisor.memory.stage import run_memory
from advisor.throughput.stage import run_throughput
from advisor.training.data import Variant
from advisor.variants.data import VARIANTS, VariantRecord, copy_stages
from advisor.variants.losses import keep, run_losses
from advisor.variants.plan import find_unavailable


def list_variants(variants: Sequence[Variant]) -> tuple[VariantRecord, ...]:
    """Return what the record has of them from the start; nothing of the run's own alone."""
    if len(variants) < 2:
        return ()
    return tuple(
        VariantRecord(
            **msgspec.structs.asdict(each),
            missing_because="the run ended before it" if index else None,
        )
        for index, each in enumerate(variants)
    )


def reserve_time(run: Run) -> None:
    """Set time aside for the variants that can run."""
    promised = VARIANT_OF_BUDGET * _list_obstacles(run).count(None)
    run.reserved_fraction = min(VARIANTS_OF_BUDGET, promised)


def run_variants(run: Run) -> None:
    """Measure memory and speed of each further variant, then the loss of all of them.

    A variant that fails is a row with its reason; it does not end the run.
    """
    if not run.record.all(VARIANTS):
        return
    run.reserved_fraction = 0.0
    kept_s = LOSSES_OF_VARIANTS * run.left_s if run.facts.has_dataset else 0.0
    obstacles = _list_obstacles(run)
    waiting = obstacles.count(None)
    for index, reason in enumerate(obstacles, start=1):
        variant = run.record.all(VARIANTS)[index]
        if reason is None and not run.is_spent and run.left_s > kept_s:
            variant = msgspec.structs.replace(variant, missing_because=None)
            _measure(run, index, variant, budget_s=(run.left_s - kept_s) / waiting)
            waiting -= 1
        else:
            late = "no time was left for it; raise --budget"
            keep(run, index, variant, missing_because=reason or late)
    run_losses(run)


def _list_obstacles(run: Run) -> list[str | None]:
    """Return for each further variant why it cannot run; None where it can."""
    further = run.record.all(VARIANTS)[1:]
    return [find_unavailable(each, run.environment, run.facts) for each in further]


def _measure(run: Run, index: int, variant: VariantRecord, *, budget_s: float) -> None:
    started, reason = time.monotonic(), None
    changes = {"precision": variant.precision, "compile": variant.compile}
    spec = msgspec.structs.replace(
        run.spec,
        workload=msgspec.structs.replace(run.spec.workload, **changes),
        limits=msgspec.structs.replace(run.spec.limits, budget_s=budget_s),
    )
    progress = _Labelled(run.progress, variant.name)
    part = Run(
        spec,
        record=open_record(
            type(run.record), spec, kind=run.record.kind, argv=run.record.command.argv
        ),
        runner=run.runner,
        progress=progress,
        save=lambda seen: keep(run, index, variant, **copy_stages(seen.record)),
    )
    part.start_s = run.start_s
    plan = run.record.get(TIME_PLAN)
    part.needs = estimate_needs(
        run.start_s,
        0.0 if plan is None else plan.step_s,
        without=NEEDS.keys() - {"memory", "throughput"},
    )
    try:
        part.keep_environment(run.environment)
        # Every sweep times its base, which here is the advised size.
        advice = run.of(ADVICE)
        size = run.facts.base_batch_size if advice is None else advice.micro_batch_size
        part.keep_workload(msgspec.structs.replace(run.facts, base_batch_size=size))
        run_memory(part)
        run_throughput(part)
    except WorkerTimeoutError as error:
        reason = f"{error.message}; raise --budget"
    except AdvisorError as error:
        reason = error.message
    if reason is None and not any(probe.stage == "throughput" for probe in part.record.all(PROBES)):
        reason = progress.last_note or "no size was timed"
    elapsed_s, seen = time.monotonic() - started, copy_stages(part.record)
    keep(run, index, variant, missing_because=reason, elapsed_s=elapsed_s, **seen)


class _Labelled(Progress):
    """Progress with the variant's name in front."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label
        self.last_note: str | None = None

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Begin a stage."""
        self._progress.stage(f"{self._label}: {name}", left_s=left_s)

    def plan(self, text: str) -> None:
        """Tell the plan."""
        self._progress.plan(f"{self._label}: {text}")

    def note(self, text: str) -> None:
        """Tell one thing that happened, and keep it."""
        self.last_note = text
        self._progress.note(f"{self._label}: {text}")
