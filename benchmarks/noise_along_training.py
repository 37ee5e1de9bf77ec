"""The noise scale of a run against exact per-sample gradients at each of its steps.

Run: python benchmarks/noise_along_training.py

The truth is the average over progress of tr Σ/|G|² of the whole training set at every step, from
`torch.func` in one pass after the other. The tool's own meter and plan then measure the same
trajectory, with other iterates and samples for each seed: as many iterates as a fast model has, as
few as a slow one can pay for, and six evenly spaced single ones as earlier versions had.
"""

import argparse
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from per_sample import LossModule
from results import write_results
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.func import functional_call, grad, vmap

from advisor.noise.data import NoiseConclusion, NoiseTask, Trajectory
from advisor.noise.iterates import draw_iterates, plan_edges
from advisor.noise.measure import MomentMeter, visit
from advisor.noise.measure_metric import find_metric, trained_parameters
from advisor.noise.plan import conclude_noise
from advisor.training.data import WorkloadFacts, WorkloadSpec
from advisor.training.model_file.batches import map_tensors
from advisor.training.model_file.order import seed_everything
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

HERE = Path(__file__).parent


class Task(NamedTuple):
    """A training."""

    file: str
    steps: int


TASKS = (
    Task("../examples/digits.py", 400),
    Task("models/convnet_adamw.py", 400),
    Task("tasks/tabular.py", 400),
)
#: Iterates; None is six evenly spaced ones, each alone.
PLANS = (64, 12, None)
#: Jackknife groups, and parts of the batch that are the gradients' micro-batches: of iterates in
#: spans, and of single ones.
OF_SPAN, OF_SINGLE = (8, 2), (16, 1)
CHUNK = 128


def make_workload(task: Task) -> Workload:
    """Return the workload, always of the same start."""
    seed_everything(0)
    target = str((HERE / task.file).resolve())
    return Workload(WorkloadSpec(target=target, device="cpu"))


def make_path(workload: Workload, points: tuple[int, ...], edges: tuple[int, ...]) -> Trajectory:
    """Return the trajectory at the user's batch, without an end in time."""
    return Trajectory(
        micro_batch_size=workload.data.base_batch_size, points=points, edges=edges, budget_s=1e6
    )


def find_exact_shares(task: Task) -> list[tuple[float, float | None]]:
    """Return the share of noise at each step, by plain gradients and in the optimizer's metric."""
    workload = make_workload(task)
    size, batch_size = workload.batches.sampling_size, workload.data.base_batch_size
    data = [workload.take(range(k, min(k + CHUNK, size))) for k in range(0, size, CHUNK)]
    shares = []
    for place in visit(workload, make_path(workload, tuple(range(task.steps)), ())):
        own = find_metric(trained_parameters(place.training), place.training.optimizer)
        roots = (None,) if own is None else (None, own)
        sums: list[tuple[float, Tensor]] = [(0.0, torch.zeros(())) for _ in roots]
        for rows in list_gradients(place.training, data):
            scaled = [rows if root is None else rows * root.float() for root in roots]
            sums = [
                (norms + float(part.square().sum()), total + part.sum(0).double())
                for (norms, total), part in zip(sums, scaled, strict=True)
            ]
        scales = []
        for norms, total in sums:
            sqnorm = float((total / size).square().sum())
            trace = (norms - size * sqnorm) / (size - 1)
            scales.append(trace / (trace + batch_size * sqnorm))
        shares.append((scales[0], None if own is None else scales[1]))
    return shares


def list_gradients(training: Training, data: list[object]) -> Iterator[Tensor]:
    """Yield the gradients of all samples, a chunk at a time."""
    module = LossModule(training)
    moved = {id(parameter) for parameter in trained_parameters(training)}
    parameters = {n: p.detach() for n, p in module.named_parameters() if id(p) in moved}

    def loss(parameters: dict[str, Tensor], sample: object) -> Tensor:
        batch = map_tensors(sample, lambda tensor: tensor.unsqueeze(0))
        return functional_call(module, parameters, (batch,))

    differentiate = vmap(grad(loss), in_dims=(None, 0))
    for chunk in data:
        gradients = differentiate(parameters, chunk)
        yield torch.cat([gradient.flatten(1) for gradient in gradients.values()], 1)


def measure(task: Task, iterates: int | None, seed: int) -> NoiseConclusion:
    """Return what the tool concludes with this seed's iterates and samples."""
    workload = make_workload(task)
    edges = () if iterates is None else plan_edges(task.steps, iterates)
    points = tuple(round((task.steps - 1) * k / 5) for k in range(6))
    if iterates is not None:
        points = draw_iterates(edges, iterates, seed=seed)
    path = make_path(workload, points, edges)
    groups, parts = OF_SINGLE if iterates is None else OF_SPAN
    noise = NoiseTask(
        workload=workload.spec, trajectory=path, micro_batch_size=path.micro_batch_size // parts,
        groups=groups, max_micro_batches=4096,
    )  # fmt: skip
    meter = MomentMeter(workload, noise, seed=seed)
    batches = [meter.measure(place) for place in visit(workload, path)]
    facts = msgspec.structs.replace(FACTS, dataset_size=workload.batches.sampling_size)
    return conclude_noise(facts, batches)


FACTS = WorkloadFacts(
    file="", model_name="", how_model="", how_loss="", how_optimizer="", how_batch="",
    has_dataset=True,
)  # fmt: skip


def judge(task: Task, seeds: int) -> Iterator[dict[str, object]]:
    """Yield a row for each plan and metric."""
    exact = find_exact_shares(task)
    batch_size = make_workload(task).data.base_batch_size
    for iterates in PLANS:
        found = [measure(task, iterates, seed) for seed in range(seeds)]
        for metric, name in enumerate(("noise_scale", "preconditioned_noise_scale")):
            shares = [pair[metric] for pair in exact if pair[metric] is not None]
            if not shares:
                continue
            share = statistics.fmean(shares)
            truth = batch_size * share / (1.0 - share)
            estimates = [getattr(noise, name) for noise in found]
            logs = [math.log(e.point / truth) for e in estimates]
            held = [e.low <= truth and (e.high is None or truth <= e.high) for e in estimates]
            yield {
                "task": Path(task.file).stem,
                "metric": ("plain", "optimizer")[metric],
                "iterates": iterates,
                "seeds": seeds,
                "exact": truth,
                "rms_log_error": math.sqrt(statistics.fmean(log**2 for log in logs)),
                "mean_log_error": statistics.fmean(logs),
                "coverage_fraction": statistics.fmean(held),
                "median_high_over_low": statistics.median(
                    e.high / e.low for e in estimates if e.high is not None
                ),
            }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=12, help="measurements of each trajectory")
    parser.add_argument("--task", default="", help="only tasks with this in their name")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("task", "metric", "iterates", "exact φ", "rms log error", "mean", "coverage",
                  "high/low")  # fmt: skip
    rows = []
    for task in TASKS:
        if arguments.task not in task.file:
            continue
        for row in judge(task, arguments.seeds):
            rows.append(row)
            table.add_row(
                str(row["task"]), str(row["metric"]), str(row["iterates"] or "6, even"),
                *(f"{row[key]:.3g}" for key in ("exact", "rms_log_error", "mean_log_error",
                  "coverage_fraction", "median_high_over_low")),
            )  # fmt: skip
            print(rows[-1], flush=True)
    Console().print(table)
    if not arguments.task:
        print(f"written: {write_results('noise_along_training', {'rows': rows})}")


if __name__ == "__main__":
    main()
