"""How noisy is the gradient? Its moments along a short real training run, or at saved weights."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from advisor.engine.budget import NOISE_END_OF_LEFT, TRAINING_OF_NOISE
from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.engine.task import Task
from advisor.errors import UsageError
from advisor.memory.data import PROBES, Probe
from advisor.memory.plan import MEMORY
from advisor.memory.split import can_split, split_batch
from advisor.noise.data import (
    NOISE_BATCHES,
    NOISE_LOG,
    FreeMemory,
    NoiseBatches,
    NoiseTask,
    Trajectory,
)
from advisor.noise.iterates import MOST_ITERATES, STATIONS, draw_iterates, plan_edges
from advisor.noise.log import read_noise_log
from advisor.noise.plan import NOISE, explain_absence
from advisor.noise.tell import brief_noise, tell_noise
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.step_time import estimate_batch_s, estimate_step_s, read_probes
from advisor.training.data import USUAL_BATCH_SIZE

#: Most steps of the trajectory where the user names none: beyond, the trial's own length is passed.
_MOST_STEPS = 400
#: Jackknife groups of an iterate: the fewest that carry one, since more iterates tell more of the
#: average than more groups of each; and of a checkpoint, which stands alone.
_GROUPS, _GROUPS_OF_CHECKPOINT = 8, 16
#: Samples of an iterate's gradients over those of a training step: small ones afford more iterates.
_GRADIENT_FRACTION = 0.5
#: Most micro-batches of one iterate; those before it mostly ask for fewer.
_MOST_MICRO_BATCHES = 4096
#: Share of the limit up to which memory beside the peak of a probe is surely free.
_SURELY_FREE_FRACTION = 0.9

T = TypeVar("T")


def read_sources(run: Run) -> None:
    """Keep the log of gradients that was given, and see that the checkpoints are there."""
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
    for path in limits.checkpoints:
        if not Path(path).is_file():
            raise UsageError(
                f"there is no checkpoint {path}", next_step="Give the path of a state_dict file."
            )
    if limits.noise_log is not None:
        run.add(NOISE_LOG, *read_noise_log(Path(limits.noise_log)))


def check_sample_unit(run: Run) -> None:
    """See that samples have tokens where the noise scale is to be told in them."""
    if run.spec.limits.sample_unit == "token" and run.facts.tokens_per_sample is None:
        raise UsageError(
            "--sample-unit token: the batch holds no integer tensor of samples by tokens that "
            "count",
            next_step="Leave the option out, so that samples are the unit.",
        )


def run_noise(run: Run) -> None:
    """Measure the noise scale where real data allows it; otherwise the record says why not."""
    if run.record.all(NOISE_LOG) or explain_absence(run.facts) is not None or run.is_spent:
        return
    path, size = plan_trajectory(run, run.share_s("noise")), _choose_micro_batch_size(run)
    largest, is_on_cpu = max(size, path.micro_batch_size), run.environment.device.kind == "cpu"
    task = NoiseTask(
        workload=run.spec.workload,
        trajectory=path,
        micro_batch_size=size,
        groups=_count_groups(run),
        max_micro_batches=_MOST_MICRO_BATCHES,
        token_count=run.facts.token_count,
        memory=FreeMemory(
            host_bytes=run.capacity_bytes if is_on_cpu else None,
            device_bytes=find_free_bytes(run.record.all(PROBES), largest, run.capacity_bytes),
        ),
    )
    iterates: list[NoiseBatches] = []
    try:
        follow(run, "noise", task, path, iterates.append)
    finally:  # after an interrupt as well; one by one they would be saved too often
        run.add(NOISE_BATCHES, *iterates)
    if not iterates:
        run.progress.note("noise: no point could be measured in the memory and time there are")


def find_free_bytes(probes: Sequence[Probe], size: int, capacity_bytes: int) -> int:
    """Return what a step of the size leaves of a GPU's memory, by a probe that took no less."""
    taken = [
        probe.peak_reserved_bytes
        for probe in probes
        if (probe.stage, probe.outcome) == ("memory", "fit")
        and probe.micro_batch_size >= size
        and probe.peak_reserved_bytes is not None
    ]
    return max(0, int(_SURELY_FREE_FRACTION * capacity_bytes) - min(taken, default=capacity_bytes))


def follow(run: Run, name: str, task: Task[T], path: Trajectory, keep: Callable[[T], None]) -> None:
    """Run a task along a trajectory; whatever ends it early is noted, and what it saw stands."""
    place = f"at {len(path.checkpoints)} checkpoints"
    if path.points:
        place = f"along {max(path.points)} training steps"
    run.progress.stage(f"{name} {place}", left_s=run.left_s)
    timeout_s = max(NOISE_END_OF_LEFT * run.left_s, path.budget_s + run.start_s)
    with run.noting_ends(name):
        run.runner.run(task, timeout_s=min(run.left_s, timeout_s), on_result=keep)


def plan_trajectory(run: Run, budget_s: float, *, points: int | None = None) -> Trajectory:
    """Return the training at the user's own batch, or at one that fits where that cannot be made.

    Iterates are drawn within spans of it, or so many `points` evenly spread over it.
    """
    facts, limits, memory = run.facts, run.spec.limits, run.of(MEMORY)
    split = None
    if facts.base_batch_size is not None:
        largest = None if memory is None else memory.max_micro_batch_size
        split = split_batch(
            facts.base_batch_size,
            largest=largest or facts.base_batch_size,
            largest_part=None if memory is None else memory.largest_accumulating,
            smallest=facts.min_micro_batch_size,
            may_split=can_split(facts),
        )
    size, accumulation = split or (_choose_batch_size(run), 1)
    probes = run.record.all(PROBES)

    def estimate_s(size: int, accumulation: int = 1) -> float:
        """Return the seconds of a step and of taking its batches; a guess where none was timed."""
        step_s = estimate_step_s(read_probes(probes), size, accumulation)
        batches_s = accumulation * estimate_batch_s(probes, size)
        return budget_s / _MOST_STEPS if step_s is None else step_s + batches_s

    steps, step_s = limits.noise_steps, estimate_s(size, accumulation)
    if steps is None:
        affordable = int(budget_s * TRAINING_OF_NOISE / step_s)
        steps = max(STATIONS - 1, min(limits.train_steps or _MOST_STEPS, affordable))
    iterate_s = _count_groups(run) * estimate_s(_choose_micro_batch_size(run))
    iterates = min(MOST_ITERATES, int((budget_s - steps * step_s) / iterate_s))
    edges = plan_edges(max(1, steps), iterates)
    places = draw_iterates(edges, iterates, seed=run.spec.workload.seed)
    if points is not None:
        edges, places = (), tuple(sorted({round(steps * k / (points - 1)) for k in range(points)}))
    if limits.checkpoints:
        edges, places = (), ()
    return Trajectory(
        micro_batch_size=size,
        gradient_accumulation_steps=accumulation,
        points=places,
        edges=edges,
        checkpoints=limits.checkpoints,
        budget_s=budget_s,
        loss_is_sum=facts.loss_reduction == "sum",
    )


def _choose_batch_size(run: Run) -> int:
    """Return the base batch, else near half saturation, as far as it fits."""
    facts, throughput, memory = run.facts, run.of(THROUGHPUT), run.of(MEMORY)
    size = facts.base_batch_size
    if size is None and throughput is not None:
        size = round(throughput.half_saturation_batch_size.point or 0)
    size = max(size or USUAL_BATCH_SIZE, facts.min_micro_batch_size)
    return size if memory is None else min(size, memory.max_micro_batch_size or size)


def _choose_micro_batch_size(run: Run) -> int:
    """Return the samples of each gradient: so many that one pass over the data fills all groups.

    Under BatchNorm those of the batch, as the noise is that of the batch size it is measured at.
    """
    facts, multiple, size = run.facts, run.spec.limits.batch_multiple, _choose_batch_size(run)
    if facts.script is not None:  # each gradient is that of a step of its loop
        return size
    memory = run.of(MEMORY)
    if memory is not None:  # a group's sum takes as much as gradients
        size = min(size, memory.largest_accumulating or size)
    if not facts.has_batch_statistics:
        size = size if run.spec.limits.checkpoints else round(_GRADIENT_FRACTION * size)
        if facts.dataset_size is not None:
            size = min(size, facts.dataset_size // (2 * _count_groups(run)))
        size = max(size, facts.min_micro_batch_size)
    return max(size // multiple, 1) * multiple


def _count_groups(run: Run) -> int:
    return _GROUPS_OF_CHECKPOINT if run.spec.limits.checkpoints else _GROUPS


QUESTION = Question(
    name="noise",
    keys=(NOISE_BATCHES, NOISE_LOG),
    topics=(NOISE,),
    read=read_sources,
    check=check_sample_unit,
    run=run_noise,
    tell=tell_noise,
    brief=brief_noise,
    fails_alone=True,
)
