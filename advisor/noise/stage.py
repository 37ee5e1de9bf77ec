"""The noise stage: gradient moments along a short real training run, or at saved weights."""

from pathlib import Path

import msgspec

from advisor.advice.derive import derive
from advisor.derived import Derived
from advisor.engine.run import Run
from advisor.engine.runner import WorkerDeathError, WorkerTimeoutError
from advisor.errors import UsageError
from advisor.memory.data import MemoryConclusion
from advisor.memory.split import can_split, split_batch
from advisor.noise.data import NoiseBatches, NoiseTask
from advisor.noise.log import read_noise_log
from advisor.noise.plan import conclude_noise, explain_absence, explain_enough
from advisor.noise.settling import find_settling_noise_scale
from advisor.sharpness.sizes import choose_curvature_sizes
from advisor.throughput.step_time import estimate_step_s, read_probes
from advisor.training.data import WorkloadFacts

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


class _SettledError(Exception):
    """Further points would not change the advice."""


def read_noise_inputs(run: Run) -> None:
    """Keep the log of gradients that was given, and see that the checkpoints are there.

    Raises:
        UsageError: A file is missing or no log, or two sources of the noise were asked for.
    """
    limits = run.spec.limits
    asked = {
        "--noise-log": limits.noise_log is not None,
        "--checkpoint": bool(limits.checkpoints),
        "--noise-steps": limits.noise_steps is not None,
    }
    chosen = [option for option, is_asked in asked.items() if is_asked]
    if len(chosen) > 1:
        raise UsageError(
            f"{' and '.join(chosen)} exclude each other: each says where the noise is measured",
            next_step="Give one of them.",
        )
    missing = [path for path in limits.checkpoints if not Path(path).is_file()]
    if missing:
        raise UsageError(
            f"there is no checkpoint {missing[0]}", next_step="Give the path of a state_dict file."
        )
    if limits.noise_log is not None:
        run.keep_noise_log(read_noise_log(Path(limits.noise_log)))


def check_sample_unit(run: Run) -> None:
    """See that samples have tokens where the noise scale is to be told in them.

    Raises:
        UsageError: They have none.
    """
    if run.spec.limits.sample_unit == "token" and run.facts.tokens_per_sample is None:
        raise UsageError(
            "--sample-unit token: the batch holds no integer tensor of samples by tokens",
            next_step="Leave the option out, so that samples are the unit.",
        )


def run_noise(run: Run) -> None:
    """Measure the noise scale where real data allows it; otherwise the record says why not."""
    if run.record.noise_log or explain_absence(run.facts) is not None or run.is_spent:
        return
    task = _plan(run)
    place = f"at {len(task.checkpoints)} checkpoints" if task.checkpoints else ""
    place = place or f"along {task.steps} training steps"
    run.progress.stage(f"noise {place}", left_s=run.left_s)
    settling = None if task.checkpoints else _find_settling_noise_scale(run)
    try:
        run.runner.run(
            task,
            timeout_s=run.left_s,
            on_result=lambda batches: _keep(run, task, batches, settling),
        )
    except _SettledError:
        run.progress.note("noise: the trajectory ends early, further points change nothing")
    except WorkerTimeoutError:
        run.progress.note("noise: it took longer than the time left")
    except WorkerDeathError as death:  # as by the system, short of memory: the rest still stands
        run.progress.note(f"noise: {death.message}")
    if not run.record.noise_batches:
        run.progress.note("noise: no point could be measured in the memory and time there are")


def _plan(run: Run) -> NoiseTask:
    facts, checkpoints = run.facts, run.spec.limits.checkpoints
    derived = derive(run.record)
    size = _choose_micro_batch_size(run, derived)
    training_size, accumulation = _split_base_batch(facts, derived.memory) or (size, 1)
    budget_s = run.left_s * _BUDGET_FRACTION
    steps = 0 if checkpoints else _choose_steps(run, training_size, accumulation, budget_s)
    return NoiseTask(
        workload=run.spec.workload,
        micro_batch_size=size,
        training_micro_batch_size=training_size,
        gradient_accumulation_steps=accumulation,
        steps=steps,
        points=_spread(steps),
        groups=_GROUPS,
        max_micro_batches=_MOST_MICRO_BATCHES,
        budget_s=budget_s,
        loss_is_sum=facts.loss_reduction == "sum",
        token_count=facts.token_count,
        checkpoints=checkpoints,
        curvature_sizes=choose_curvature_sizes(run, size),
        host_memory_bytes=run.capacity_bytes if run.environment.device.kind == "cpu" else None,
    )


def _keep(run: Run, task: NoiseTask, batches: NoiseBatches, settling: float | None) -> None:
    """Keep a point of the trajectory; once further ones would change nothing, end it.

    Raises:
        _SettledError: They would not.
    """
    if task.checkpoints or batches.at_step >= task.steps:
        run.keep_noise(batches)
        return
    conclusion = conclude_noise(run.facts, (*run.record.noise_batches, batches))
    enough = explain_enough(conclusion, settling)
    if enough is None:
        run.keep_noise(batches)
        return
    why = f"ended early, since {enough}"
    run.keep_noise(msgspec.structs.replace(batches, ended_because=why))
    raise _SettledError


def _find_settling_noise_scale(run: Run) -> float | None:
    derived = derive(run.record)
    if derived.memory is None or derived.throughput is None:
        return None
    if run.spec.limits.global_batch_size is not None:
        return None  # the batch is settled anyway; its rate still depends on the noise
    return find_settling_noise_scale(run.facts, derived.memory, derived.throughput)


def _choose_micro_batch_size(run: Run, derived: Derived) -> int:
    """Return the samples of each gradient: the base batch, else near half saturation.

    Capped by memory, and so that one pass over the data fills every group; not the latter under
    BatchNorm, whose noise is that of the batch size it is measured at.
    """
    facts, multiple = run.facts, run.spec.limits.batch_multiple
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


def _split_base_batch(
    facts: WorkloadFacts, memory: MemoryConclusion | None
) -> tuple[int, int] | None:
    """Return the user's own batch as micro-batch and accumulation; None where it cannot be made."""
    if facts.base_batch_size is None:
        return None
    largest = None if memory is None else memory.max_micro_batch_size
    return split_batch(
        facts.base_batch_size,
        largest=largest or facts.base_batch_size,
        smallest=facts.min_micro_batch_size,
        may_split=can_split(facts),
    )


def _choose_steps(run: Run, size: int, accumulation: int, budget_s: float) -> int:
    asked = run.spec.limits.noise_steps
    if asked is not None:
        return asked
    step_s = estimate_step_s(read_probes(run.record.probes), size, accumulation)
    step_s = budget_s / _MOST_STEPS if step_s is None else step_s
    return max(_POINTS - 1, min(_MOST_STEPS, int(budget_s * _TRAINING_FRACTION / step_s)))


def _spread(steps: int) -> tuple[int, ...]:
    """Return the points, evenly spread, from the first step to the last."""
    count = min(_POINTS, steps + 1)
    return tuple(sorted({round(steps * k / max(1, count - 1)) for k in range(count)}))
