"""How other tools search for the largest batch, as their users would call them, in one process.

Each function trains with whatever sizes its tool asks for and returns the tool's answer. A trial is
one size that was tried, three training steps; a failure is a trial that ran out of memory. Every
loop holds its last output and loss, as the advisor's probes do, so that all have the same maximum.
"""

import importlib.util
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.memory.measure_limit import MemoryGauge

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.tuner import Tuner, batch_size_scaling
except ImportError:
    LightningModule = None
try:
    from accelerate.utils import find_executable_batch_size
except ImportError:
    find_executable_batch_size = None
try:
    import toma
except ImportError:
    toma = None

STEPS = 3
#: Samples of the data set: more than any tool tries.
DATASET_SIZE = 1 << 16
TIMEOUT_S = 120.0


class Trials:
    """The sizes that were tried, and how many of them failed.

    Args:
        start: The first size, for tools that only go down.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self.sizes: list[int] = []
        self.failures = 0

    def train(self, user: ModuleType, size: int) -> int:
        """Run a user's training loop at a size and return the size."""
        self.sizes.append(size)
        try:
            model = user.make_model()
            optimizer = make_optimizer(user, model)
            inputs, targets = user.make_batch(size)
            for _ in range(STEPS):
                optimizer.zero_grad()
                outputs = model(inputs)
                loss = compute_loss(outputs, targets)
                loss.backward()
                optimizer.step()
        except RuntimeError:
            self.failures += 1
            raise
        return size


def make_optimizer(user: ModuleType, model: nn.Module) -> torch.optim.Optimizer:
    """Return the model file's optimizer, else AdamW, as the advisor does."""
    make = getattr(user, "make_optimizer", None)
    return make(model) if make else torch.optim.AdamW(model.parameters())


def compute_loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy over all predictions."""
    return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def run_accelerate(user: ModuleType, trials: Trials) -> int:
    """Return the answer of accelerate's `find_executable_batch_size`."""

    @find_executable_batch_size(starting_batch_size=trials.start)
    def train(batch_size: int) -> int:
        return trials.train(user, batch_size)

    return int(train())


def run_toma(user: ModuleType, trials: Trials) -> int:
    """Return the answer of `toma.simple.batch`."""
    return int(toma.simple.batch(lambda size: trials.train(user, size), trials.start))


def run_binsearch(user: ModuleType, trials: Trials) -> int:
    """Return the answer of Lightning's `scale_batch_size`, mode `binsearch`."""
    return _run_lightning(user, trials, "binsearch")


def run_power(user: ModuleType, trials: Trials) -> int:
    """Return the answer of Lightning's `scale_batch_size`, mode `power`."""
    return _run_lightning(user, trials, "power")


def _run_lightning(user: ModuleType, trials: Trials, mode: str) -> int:
    for name in ("lightning.pytorch", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.batch_size = 2
            self.model = user.make_model()

        def train_dataloader(self) -> Any:
            trials.sizes.append(self.batch_size)
            return DataLoader(
                range(DATASET_SIZE),  # type: ignore[arg-type]
                batch_size=self.batch_size,
                collate_fn=lambda indices: user.make_batch(len(indices)),
            )

        def training_step(self, batch: Any, _index: int) -> torch.Tensor:
            inputs, targets = batch
            self.outputs = self.model(inputs)
            return compute_loss(self.outputs, targets)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return make_optimizer(user, self.model)

    judge = batch_size_scaling.is_oom_error

    def count(error: BaseException) -> bool:
        trials.failures += 1
        return bool(judge(error))

    batch_size_scaling.is_oom_error = count
    with tempfile.TemporaryDirectory() as directory:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=directory,
        )
        answer = Tuner(trainer).scale_batch_size(Module(), mode=mode, steps_per_trial=STEPS)
    return int(answer or 0)


PEERS: dict[str, tuple[Callable[[ModuleType, Trials], int], object]] = {
    "Lightning binsearch": (run_binsearch, LightningModule),
    "Lightning power": (run_power, LightningModule),
    "accelerate": (run_accelerate, find_executable_batch_size),
    "toma": (run_toma, toma),
}


def list_peers() -> tuple[list[str], list[str]]:
    """Return the tools that are installed, and those that are not."""
    found = [name for name, (_, tool) in PEERS.items() if tool is not None]
    return found, [name for name in PEERS if name not in found]


def run_peer(name: str, path: Path, limit_bytes: int, start: int) -> dict[str, Any]:
    """Return what one tool answers under one limit, in a process of its own.

    Args:
        name: A key of `PEERS`.
        path: The model file.
        limit_bytes: Enforced like the limit of the advisor's probes.
        start: First size, for tools that only go down.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(name, path, limit_bytes, start, sender))
    started = time.monotonic()
    process.start()
    sender.close()
    result: dict[str, Any] = {"answer": None, "trials": None, "failures": None}
    try:
        if receiver.poll(TIMEOUT_S):
            result = receiver.recv()
        else:
            result["crash"] = f"not done after {TIMEOUT_S:.0f} s"
    except EOFError:
        process.join()
        result["crash"] = f"the process ended with code {process.exitcode}"
    process.kill()
    process.join()
    return {"peer": name, **result, "elapsed_s": time.monotonic() - started}


def load_model_file(path: Path) -> ModuleType:
    """Return the model file as a module."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    user = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(user)
    return user


def _run(name: str, path: Path, limit_bytes: int, start: int, sender: Connection) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - until the process ends
    torch.manual_seed(0)
    user, trials = load_model_file(path), Trials(start)
    MemoryGauge(torch.device("cpu"), limit_bytes)
    answer, crash = None, None
    try:
        answer = PEERS[name][0](user, trials)
    except Exception as error:  # noqa: BLE001 - a tool that gives up is a result
        crash = f"{type(error).__name__}: {error}"[:200]
    sender.send(
        {
            "answer": answer,
            "trials": len(_drop_repeats(trials.sizes)),
            "failures": trials.failures,
            "crash": crash,
        }
    )
    os._exit(0)


def _drop_repeats(sizes: list[int]) -> list[int]:
    """Return the sizes, each run of equal ones counted once."""
    return [size for i, size in enumerate(sizes) if i == 0 or size != sizes[i - 1]]
