"""One of two ranks that train under monitors; the first prints what these saw.

Beside it what each micro-batch of each rank adds, taken by hand.
"""

import json
import sys

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from advisor import NoiseScaleMonitor

STEPS, RANKS, SIZE = 2, 2, 6
#: The first layer's gradients, before those of the normalisation layer and after.
NORMALISATION = slice(8 * 16 + 16, 8 * 16 + 16 + 32)


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Tanh(), nn.Linear(16, 1))


def lose(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def monitor_training(kind, accumulation, batches):
    model = make_model()
    if kind == "ddp":
        model = DistributedDataParallel(model)
    else:
        fully_shard(model[0])
        fully_shard(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with NoiseScaleMonitor(model, optimizer, every=1) as monitor:
        for step in range(STEPS):
            optimizer.zero_grad()
            for number in range(accumulation):
                if kind == "ddp":
                    model.require_backward_grad_sync = number == accumulation - 1
                batch = batches[step * accumulation + number]
                (lose(model, batch) / accumulation).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
    return monitor


def take_gradient(batch):
    model = make_model()
    lose(model, batch).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def take_examples(batch):
    pairs = zip(*(each.unsqueeze(1) for each in batch), strict=True)
    return torch.stack([take_gradient(pair)[NORMALISATION] for pair in pairs])


def take_by_hand(kind, accumulation, batches):
    """Return the mean gradients of each step's parts."""
    is_alone = (kind, accumulation) == ("fsdp", 1)
    taken = torch.stack([(take_examples if is_alone else take_gradient)(b) for b in batches])
    found = [torch.empty_like(taken) for _ in range(RANKS)]
    distributed.all_gather(found, taken)
    passes = torch.stack(found).double().unflatten(1, (STEPS, accumulation)).transpose(0, 1)
    if kind == "fsdp" and not is_alone:  # of a pass no more is seen than all ranks' gradient
        passes = passes.mean(1, keepdim=True)
    return passes.reshape(STEPS, -1, passes.shape[-1])


def compare(kind, accumulation, rank):
    torch.manual_seed(1 + rank)
    batches = [(torch.randn(SIZE, 8), torch.randn(SIZE, 1)) for _ in range(STEPS * accumulation)]
    monitor = monitor_training(kind, accumulation, batches)
    seen = [
        [e.samples, e.micro_batches, e.micro_batch_sqnorm, e.mean_sqnorm] for e in monitor.entries
    ]
    hand = [
        [
            RANKS * accumulation * SIZE,
            len(parts),
            float(parts.square().sum(1).mean()),
            float(parts.mean(0).square().sum()),
        ]
        for parts in take_by_hand(kind, accumulation, batches)
    ]
    return {"seen": seen, "hand": hand, "estimator": monitor.estimator}


def main(rank, store):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS
    )
    kinds = [("ddp", 1), ("ddp", 3), ("fsdp", 1), ("fsdp", 2)]
    found = {f"{kind} {count}": compare(kind, count, rank) for kind, count in kinds}
    if rank == 0:
        print(json.dumps(found))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
