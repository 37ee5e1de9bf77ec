"""The noise stage: gradient moments along a short real training run."""

from typing import cast

from advisor.analysis.noise import explain_absence
from advisor.measurements import NoiseBatches
from advisor.probe.runner import WorkerTimeoutError
from advisor.recommend import derive
from advisor.session.curvature import choose_curvature_sizes
from advisor.session.run import Run
from advisor.spec import NoiseTask

#: Share of the time left that the stage may take.
_BUDGET_FRACTION = 0.5
#: Share of the stage's time that its training steps may take; the rest measures.
_TRAINING_FRACTION = 0.4
#: Most steps of the trajectory where the user names none: beyond, the trial's own length is passed.
_MOST_STEPS = 400
#: Points along the trajectory.
_POINTS = 6
#: Jackknife groups, see docs/method.md.
_GROUPS = 16
#: Most micro-batches at one point; its pilot round mostly asks for fewer.
_MOST_MICRO_BATCHES = 4096
#: Micro-batch of the gradients where neither a base batch nor a half-saturation batch is known.
_FALLBACK_SIZE = 32


def run_noise(run: Run) -> None:
    """Measure the noise scale where real data allows it; otherwise the record says why not."""
    facts = run.facts
    if explain_absence(facts) is not None or run.is_spent:
        return
    size = _choose_micro_batch_size(run)
    budget_s = run.left_s * _BUDGET_FRACTION
    steps = _choose_steps(run, size, budget_s)
    run.progress.stage(f"noise along {steps} training steps", left_s=run.left_s)
    task = NoiseTask(
        workload=run.spec.workload,
        micro_batch_size=size,
        steps=steps,
        points=_spread(steps),
        groups=_GROUPS,
        max_micro_batches=_MOST_MICRO_BATCHES,
        budget_s=budget_s,
        loss_is_sum=facts.loss_reduction == "sum",
        curvature_sizes=choose_curvature_sizes(run, size),
    )
    try:
        run.runner.run(
            task,
            timeout_s=run.left_s,
            on_result=lambda batches: run.keep_noise(cast("NoiseBatches", batches)),
        )
    except WorkerTimeoutError:
        run.progress.note("noise: it took longer than the time left")
    if not run.record.noise_batches:
        run.progress.note("noise: no point could be measured in the memory and time there are")


def _choose_micro_batch_size(run: Run) -> int:
    """Return the samples of each gradient: the base batch, else near half saturation.

    Capped by memory, and so that one pass over the data fills every group; not the latter under
    BatchNorm, whose noise is that of the batch size it is measured at.
    """
    facts, derived, multiple = run.facts, derive(run.record), run.spec.limits.batch_multiple
    size = facts.base_batch_size
    if size is None and derived.throughput is not None:
        half = derived.throughput.half_saturation_batch_size.point
        size = None if half is None else round(half)
    size = max(size or _FALLBACK_SIZE, facts.min_micro_batch_size)
    if derived.memory is not None and derived.memory.max_micro_batch_size is not None:
        size = min(size, derived.memory.max_micro_batch_size)
    if facts.dataset_size is not None and not facts.has_batch_statistics:
        size = min(size, max(facts.min_micro_batch_size, facts.dataset_size // (2 * _GROUPS)))
    return max(size // multiple, 1) * multiple


def _choose_steps(run: Run, size: int, budget_s: float) -> int:
    asked = run.spec.limits.noise_steps
    if asked is not None:
        return asked
    times = [
        (abs(probe.micro_batch_size - size), min(probe.step_times_s))
        for probe in run.record.probes
        if probe.step_times_s
    ]
    step_s = min(times)[1] if times else budget_s / _MOST_STEPS
    return max(_POINTS - 1, min(_MOST_STEPS, int(budget_s * _TRAINING_FRACTION / step_s)))


def _spread(steps: int) -> tuple[int, ...]:
    """Return the points, evenly spread, from the first step to the last."""
    count = min(_POINTS, steps + 1)
    return tuple(sorted({round(steps * k / max(1, count - 1)) for k in range(count)}))
