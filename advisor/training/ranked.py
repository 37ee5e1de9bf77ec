"""A model file trained on several ranks, as a script: `python -m advisor.training.ranked MODEL`.

What measures a user's own script on ranks measures this one: the file's model, loss, optimizer and
data, wrapped as people wrap them. It trains until it is ended.
"""

import argparse
import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from advisor.errors import WorkloadError
from advisor.training.data import USUAL_BATCH_SIZE, WorkloadSpec
from advisor.training.model_file.lightning import is_lightning_type
from advisor.training.model_file.training_data import is_map_style
from advisor.training.model_file.workload import Workload
from advisor.training.optimizer_facts import describe_optimizer
from advisor.training.training import Training

_SCRIPT_INSTEAD = "Measure your own training script on the ranks: probe train.py -- ..."


def main() -> None:
    """Train on this rank, from torchrun's environment variables."""
    asked = _parse()
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    has_cuda = torch.cuda.is_available()
    device = f"cuda:{os.environ['LOCAL_RANK']}" if has_cuda else "cpu"
    if has_cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if has_cuda else "gloo")
    workload = Workload(
        WorkloadSpec(
            target=asked.model,
            settings=dict(setting.split("=", 1) for setting in asked.set),
            device=device,
            precision=asked.precision,
            compile=asked.compile,
            seed=asked.seed,
        )
    )
    torch.manual_seed(asked.seed)  # the same weights on all ranks
    training = None
    if not workload.is_step_only:
        training = workload.make_training(wrap=lambda model: _wrap(model, asked.strategy))
    if training is None or training.needs_closure:
        raise WorkloadError(
            f"{asked.model} makes its own steps, which are not spread over ranks",
            next_step=_SCRIPT_INSTEAD,
        )
    torch.manual_seed(asked.seed + rank)
    if asked.learning_rate is not None:  # of the first group that trains; all keep their ratios
        own = describe_optimizer(training.optimizer).learning_rate
        for group in training.optimizer.param_groups:
            group["lr"] = group["lr"] * asked.learning_rate / own if own else asked.learning_rate
    size = asked.batch_size or max(1, (workload.data.base_batch_size or USUAL_BATCH_SIZE) // world)
    batches = _draw_batches(workload, size, rank, world, asked.seed)
    schedule = workload.make_scheduler(training, asked.steps) if asked.steps else None
    _train(training, batches, asked.accumulation, schedule)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="advisor.training.ranked")
    parser.add_argument("model")
    parser.add_argument("--strategy", choices=("ddp", "fsdp"), default="ddp")
    parser.add_argument("--batch-size", type=int, help="of one rank's backward pass")
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--steps", type=int, help="over which the file's schedule is stretched")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[])
    return parser.parse_args()


def _wrap(model: nn.Module, strategy: str) -> nn.Module:
    """Replicate the model, or shard it as FSDP2's tutorial does: blocks apart, then the rest."""
    if is_lightning_type(type(model)):
        raise WorkloadError(
            "a LightningModule is spread over ranks by its Trainer", next_step=_SCRIPT_INSTEAD
        )
    if strategy == "ddp":
        return DistributedDataParallel(model)
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    for module in list(model.modules()):
        if isinstance(module, nn.ModuleList):
            for block in module:
                fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)  # in place
    return model


def _draw_batches(workload: Workload, size: int, rank: int, world: int, seed: int) -> Iterator[Any]:
    """Yield this rank's batches on the device, without end."""
    _ = workload.batches  # finds the dataset
    dataset, generator = workload.data.dataset, torch.Generator("cpu").manual_seed(seed + rank)
    while dataset is None:
        yield workload.draw(size, generator)
    if not is_map_style(dataset) or not hasattr(dataset, "__len__"):
        raise WorkloadError(
            "a stream of samples is not divided among ranks here", next_step=_SCRIPT_INSTEAD
        )
    sampler: DistributedSampler[Any] = DistributedSampler(
        dataset, world, rank, seed=seed, drop_last=True
    )
    loader = DataLoader(
        dataset, size, sampler=sampler, collate_fn=workload.data.collate, drop_last=True
    )
    if not len(loader):
        raise WorkloadError(
            f"the dataset has fewer samples than {world} ranks of batch {size} take at once",
            next_step="Take a smaller batch, or fewer ranks.",
        )
    for epoch in itertools.count():
        sampler.set_epoch(epoch)
        yield from map(workload.to_device, loader)


def _train(
    training: Training, batches: Iterator[Any], accumulation: int, schedule: LRScheduler | None
) -> None:
    model: Any = training.model
    while True:
        for number in range(1, accumulation + 1):
            keeps = number < accumulation and isinstance(model, DistributedDataParallel)
            with model.no_sync() if keeps else contextlib.nullcontext():
                training.backward(next(batches), divisor=float(accumulation))
        training.update()
        if schedule is not None:
            schedule.step()


if __name__ == "__main__":
    main()
