"""The noise stage: gradient moments along a short real training run, or at saved weights."""

from pathlib import Path

import msgspec

from advisor.advice.decide import decide
from advisor.engine.run import Run
from advisor.engine.runner import WorkerDeathError, WorkerTimeoutError
from advisor.errors import UsageError
from advisor.memory.data import MemoryConclusion
from advisor.memory.plan import MEMORY
from advisor.memory.split import can_split, split_batch
from advisor.noise.course import explain_enough
from advisor.noise.data import NOISE_LOG, NoiseBatches, NoiseTask, Trajectory
from advisor.noise.log import read_noise_log
from advisor.noise.plan import conclude_noise, explain_absence
from advisor.statistics import Estimate
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import ThroughputConclusion
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
#: Noise scales tried, in samples, one for each doubling; beyond the last no run is known.
_DOUBLINGS = 30


class _SettledError(Exception):
    """Further points would not change the advice."""


def check_noise(run: Run) -> None:
    """Keep the log of gradients that was given, and see that the checkpoints are there.

    Raises:
        UsageError: A file is missing or no log, two sources of the noise were asked for, or tokens
            where samples have none.
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
        run.add(NOISE_LOG, *read_noise_log(Path(limits.noise_log)))
    if limits.sample_unit == "token" and run.facts.tokens_per_sample is None:
        raise UsageError(
            "--sample-unit token: the batch holds no integer tensor of samples by tokens",
            next_step="Leave the option out, so that samples are the unit.",
        )


def run_noise(run: Run) -> None:
    """Measure the noise scale where real data allows it; otherwise the record says why not."""
    if run.record.noise_log or explain_absence(run.facts) is not None or run.is_spent:
        return
    path = plan_trajectory(run, run.left_s * _BUDGET_FRACTION)
    task = NoiseTask(
        workload=run.spec.workload,
        trajectory=path,
        micro_batch_size=choose_micro_batch_size(run),
        groups=_GROUPS,
        max_micro_batches=_MOST_MICRO_BATCHES,
        token_count=run.facts.token_count,
        host_memory_bytes=run.capacity_bytes if run.environment.device.kind == "cpu" else None,
    )
    settling = None if path.checkpoints else _find_settling_noise_scale(run)
    run.progress.stage(f"noise {describe_trajectory(path)}", left_s=run.left_s)
    try:
        run.runner.run(
            task,
            timeout_s=run.left_s,
            on_result=lambda batches: _keep(run, path, batches, settling),
        )
    except _SettledError:
        run.progress.note("noise: the trajectory ends early, further points change nothing")
    except WorkerTimeoutError:
        run.progress.note("noise: it took longer than the time left")
    except WorkerDeathError as death:  # as by the system, short of memory: the rest still stands
        run.progress.note(f"noise: {death.message}")
    if not run.record.noise_batches:
        run.progress.note("noise: no point could be measured in the memory and time there are")


def describe_trajectory(path: Trajectory) -> str:
    """Return where is measured, for the progress."""
    if path.checkpoints:
        return f"at {len(path.checkpoints)} checkpoints"
    return f"along {path.points[-1]} training steps"


def plan_trajectory(run: Run, budget_s: float) -> Trajectory:
    """Return the training at the user's own batch, or at the gradients' where that cannot be made.

    Its points are evenly spread, from the first step to the last.
    """
    facts, limits = run.facts, run.spec.limits
    size = choose_micro_batch_size(run)
    size, accumulation = _split_base_batch(facts, run.of(MEMORY)) or (size, 1)
    points: tuple[int, ...] = ()
    if not limits.checkpoints:
        steps = limits.noise_steps
        steps = _choose_steps(run, size, accumulation, budget_s) if steps is None else steps
        count = min(_POINTS, steps + 1)
        points = tuple(sorted({round(steps * k / max(1, count - 1)) for k in range(count)}))
    return Trajectory(
        micro_batch_size=size,
        gradient_accumulation_steps=accumulation,
        points=points,
        checkpoints=limits.checkpoints,
        budget_s=budget_s,
        loss_is_sum=facts.loss_reduction == "sum",
    )


def choose_micro_batch_size(run: Run) -> int:
    """Return the samples of each gradient: the base batch, else near half saturation.

    Capped by memory, and so that one pass over the data fills every group; not the latter under
    BatchNorm, whose noise is that of the batch size it is measured at.
    """
    facts, multiple = run.facts, run.spec.limits.batch_multiple
    size, memory, throughput = facts.base_batch_size, run.of(MEMORY), run.of(THROUGHPUT)
    if size is None and throughput is not None:
        half = throughput.half_saturation_batch_size.point
        size = None if half is None else round(half)
    size = max(size or _FALLBACK_SIZE, facts.min_micro_batch_size)
    if memory is not None and memory.max_micro_batch_size is not None:
        size = min(size, memory.max_micro_batch_size)
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
    step_s = estimate_step_s(read_probes(run.record.probes), size, accumulation)
    step_s = budget_s / _MOST_STEPS if step_s is None else step_s
    return max(_POINTS - 1, min(_MOST_STEPS, int(budget_s * _TRAINING_FRACTION / step_s)))


def _keep(run: Run, path: Trajectory, batches: NoiseBatches, settling: float | None) -> None:
    """Keep a point of the trajectory; once further ones would change nothing, end it.

    Raises:
        _SettledError: They would not.
    """
    enough = None
    if path.points and batches.at_step < path.points[-1]:
        conclusion = conclude_noise(run.facts, (*run.record.noise_batches, batches))
        enough = explain_enough(conclusion, settling)
    if enough is None:
        run.keep_noise(batches)
        return
    why = f"ended early, since {enough}"
    run.keep_noise(msgspec.structs.replace(batches, ended_because=why))
    raise _SettledError


def _find_settling_noise_scale(run: Run) -> float | None:
    memory, throughput = run.of(MEMORY), run.of(THROUGHPUT)
    if memory is None or throughput is None:
        return None
    if run.spec.limits.global_batch_size is not None:
        return None  # the batch is settled anyway; its rate still depends on the noise
    return find_settling_noise_scale(run.facts, memory, throughput)


def find_settling_noise_scale(
    facts: WorkloadFacts, memory: MemoryConclusion, throughput: ThroughputConclusion
) -> float | None:
    """Return the noise scale, a power of two, from which on the advised batch is the same.

    None where no size was timed, or where the batch still changes at 2³⁰ samples.
    """

    def choose(scale: float) -> int | None:
        decision = decide(facts, memory, throughput, Estimate(scale, scale, scale))
        return None if decision is None else decision.chosen.global_batch_size

    last, settled = choose(2.0**_DOUBLINGS), None
    if last is None:
        return None
    for doubling in reversed(range(_DOUBLINGS)):
        if choose(2.0**doubling) != last:
            return settled
        settled = 2.0**doubling
    return settled
