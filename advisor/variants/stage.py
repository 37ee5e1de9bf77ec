"""The variants stage: other precisions, compiled or not, measured as the run itself was."""

import time
from collections.abc import Sequence

import msgspec

from advisor.advice.plan import ADVICE
from advisor.engine.commands import ProbeSpec
from advisor.engine.progress import Progress
from advisor.engine.run import Run
from advisor.engine.run_record import RunRecord
from advisor.engine.runner import WorkerTimeoutError
from advisor.errors import AdvisorError
from advisor.memory.stage import run_memory
from advisor.throughput.stage import run_throughput
from advisor.training.data import Variant, WorkloadFacts, name_variant
from advisor.variants.data import VARIANTS, VariantRecord
from advisor.variants.losses import run_losses
from advisor.variants.plan import find_unavailable

#: Share of the budget that each further variant is promised, and the most that all together are:
#: the recommendation, which is for the first, keeps at least the rest.
_EACH_FRACTION, _MOST_FRACTION = 0.2, 0.5
#: Share of the variants' time that is kept for the loss runs, where there is data for them.
_LOSS_FRACTION = 0.3


def list_variants(variants: Sequence[Variant]) -> tuple[VariantRecord, ...]:
    """Return what a record starts with: every variant, the run's own first, none for it alone."""
    first, *others = variants
    if not others:
        return ()
    return (
        VariantRecord(precision=first.precision, compile=first.compile),
        *(_start_record(each, "the run ended before it") for each in others),
    )


def reserve_time(run: Run) -> None:
    """Set time aside for the variants that can run."""
    share = min(_MOST_FRACTION, _EACH_FRACTION * len(_list_available(run)))
    run.reserved_s = run.spec.limits.budget_s * share


def run_variants(run: Run) -> None:
    """Measure memory and speed of each further variant, then the loss of all of them.

    A variant that fails is a row with its reason; it does not end the run.
    """
    further = _list_further(run)
    if not further:
        return
    run.reserved_s = 0.0
    kept_s = _LOSS_FRACTION * run.left_s if run.facts.has_dataset else 0.0
    waiting = len(_list_available(run))
    for index, variant in enumerate(further, start=1):
        reason = find_unavailable(variant, run.environment, run.facts)
        if reason is None and (run.is_spent or run.left_s <= kept_s):
            reason = "no time was left for it; raise --budget"
        if reason is not None:
            _keep(run, index, _start_record(variant, reason))
            continue
        _measure(run, index, variant, budget_s=(run.left_s - kept_s) / waiting)
        waiting -= 1
    run_losses(run)


def _list_further(run: Run) -> list[Variant]:
    return [
        Variant(precision=each.precision, compile=each.compile)
        for each in run.record.all(VARIANTS)[1:]
    ]


def _list_available(run: Run) -> list[Variant]:
    return [
        each
        for each in _list_further(run)
        if find_unavailable(each, run.environment, run.facts) is None
    ]


def _start_record(variant: Variant, reason: str | None = None) -> VariantRecord:
    return VariantRecord(
        precision=variant.precision, compile=variant.compile, missing_because=reason
    )


def _measure(run: Run, index: int, variant: Variant, *, budget_s: float) -> None:
    record, reason = _start_record(variant), None
    started = time.monotonic()
    name = name_variant(variant.precision, compiled=variant.compile)
    progress = _Labelled(run.progress, name)
    part = Run(
        _make_spec(run, variant, budget_s),
        argv=run.record.command.argv,
        runner=run.runner,
        progress=progress,
        save=lambda seen: _keep(run, index, _copy_stages(record, seen)),
    )
    try:
        part.keep_environment(run.environment)
        part.keep_workload(_aim_at_advice(run))
        run_memory(part)
        run_throughput(part)
    except WorkerTimeoutError as error:
        reason = f"{error.message}; raise --budget"
    except AdvisorError as error:
        reason = error.message
    if reason is None and not any(probe.stage == "throughput" for probe in part.record.probes):
        reason = progress.last_note or "no size was timed"
    _keep(
        run,
        index,
        msgspec.structs.replace(
            _copy_stages(record, part.record),
            missing_because=reason,
            elapsed_s=time.monotonic() - started,
        ),
    )


def _make_spec(run: Run, variant: Variant, budget_s: float) -> ProbeSpec:
    return ProbeSpec(
        workload=msgspec.structs.replace(
            run.spec.workload, precision=variant.precision, compile=variant.compile
        ),
        limits=msgspec.structs.replace(run.spec.limits, budget_s=budget_s),
    )


def _aim_at_advice(run: Run) -> WorkloadFacts:
    """Return the workload with the advised micro-batch as its base: every sweep times its base."""
    advice = run.of(ADVICE)
    size = run.facts.base_batch_size if advice is None else advice.micro_batch_size
    return msgspec.structs.replace(run.facts, base_batch_size=size)


def _copy_stages(variant: VariantRecord, seen: RunRecord) -> VariantRecord:
    return msgspec.structs.replace(
        variant,
        probes=seen.probes,
        telemetry=seen.telemetry,
        predicted_memory=seen.predicted_memory,
        step_cost=seen.step_cost,
        missing_because=None if seen.probes else variant.missing_because,
    )


def _keep(run: Run, index: int, variant: VariantRecord) -> None:
    variants = run.record.variants
    run.keep_variants((*variants[:index], variant, *variants[index + 1 :]))


class _Labelled:
    """Progress with the variant's name in front.

    Attributes:
        last_note: What was noted last.
    """

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label
        self.last_note: str | None = None

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Begin a stage."""
        self._progress.stage(f"{self._label}: {name}", left_s=left_s)

    def note(self, text: str) -> None:
        """Tell one thing that happened, and keep it."""
        self.last_note = text
        self._progress.note(f"{self._label}: {text}")
