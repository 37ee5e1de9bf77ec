"""The user's model file, understood: makes models, batches and training runs on a device."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import TensorDataset

from advisor.errors import WorkloadError
from advisor.training.data import Precision, WorkloadSpec, parse_target
from advisor.training.devices import resolve_device
from advisor.training.model_file import lightning
from advisor.training.model_file.batches import to_device
from advisor.training.model_file.buffers import preserve_buffers
from advisor.training.model_file.data import Batches
from advisor.training.model_file.foreign import parameters_in, running
from advisor.training.model_file.loading import Maker
from advisor.training.model_file.loss import Loss, find_loss
from advisor.training.model_file.training_data import TrainingData
from advisor.training.optimizer_facts import check_rates, restart_rates
from advisor.training.schedule import check_scheduler
from advisor.training.training import Training, UserStep

#: Samples of the first batch: BatchNorm cannot run on 1.
_FIRST_SIZE = 2
#: Samples of whose targets it is seen whether they are labels.
_LOOKED_AT = 64


class Workload:
    """Everything the tool may do with the user's file.

    Attributes:
        is_step_only: Whether the file has only `make_step`.
        data: What it trains on.
        closure: How the optimizer was seen to be stepped; None where its signature alone tells.
    """

    def __init__(self, spec: WorkloadSpec) -> None:
        self.spec = spec
        self._maker = maker = Maker(parse_target(spec.target), spec.settings)
        self.target, self.names, self.settings = maker.target, maker.names, maker.settings
        self.device = resolve_device(spec.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # the user's own .cuda() calls must agree
        if spec.precision == "tf32":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
        self.is_step_only = self.names.step is not None
        self.data = TrainingData(maker, spec.base_batch_size)
        self.closure = spec.closure
        self._first_size = max(_FIRST_SIZE, spec.smallest_batch)
        self._loss: Loss | None = None

    @property
    def batches(self) -> Batches:
        """The source of batches, opened on first use."""
        return self.data.batches

    def begin_again(self, smallest_batch: int) -> None:
        """Forget what was found of the loss and the optimizer by smaller batches than this."""
        self._first_size, self._loss, self.closure = smallest_batch, None, self.spec.closure

    def make_model(self) -> nn.Module:
        """Return a fresh model on the device, in train mode; WorkloadError where it is none."""
        assert self.names.model is not None
        model = self._maker.make("model")
        if not isinstance(model, nn.Module):
            raise WorkloadError(
                f"{self.names.how_model} returned a {type(model).__name__}, not an nn.Module",
                next_step="Return the model from it.",
            )
        if lightning.is_lightning_type(type(model)):
            model = lightning.prepare(model, self.data.find_data_module)
        with running(f"moving {type(model).__name__} to {self.device}"):
            # The user's own `to` and `train` may return nothing.
            moved: object = model.to(self.device)
            model = moved if isinstance(moved, nn.Module) else model
        with running(f"{type(model).__name__}.train"):
            model.train(True)  # the mode may have no default in the user's own
        if next(parameters_in(model), None) is None:
            raise WorkloadError(
                f"{self.names.how_model} has no parameters: {type(model).__name__} is no model to "
                "train",
                next_step="Name the model with FILE:NAME, or add make_model() to the file; run it "
                "once on a batch there where its layers are made at the first call.",
            )
        if lightning.is_lightning_type(type(model)):
            lightning.start(model)
        return model

    def make_training(
        self,
        *,
        precision: Precision | None = None,
        wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    ) -> Training:
        """Return a fresh model and optimizer, ready to step.

        `wrap` spreads the model over ranks, before it has an optimizer.
        """
        model = self.make_model()
        self._fill_in(model)
        loss_function, wrapped = self.loss(model).function, wrap(model)
        return Training(
            model=wrapped,
            optimizer=self.make_optimizer(model),
            loss_function=loss_function,
            device=self.device,
            precision=precision or self.spec.precision,
            compile_model=self.spec.compile,
            clip_grad_norm=self.names.clip_grad_norm,
            closure=self.closure,
        )

    def _fill_in(self, model: nn.Module) -> None:
        """Run a lazy model once, which gives its parameters their sizes."""
        if not any(map(is_lazy, (*parameters_in(model), *model.buffers()))):
            return
        loss = self.loss(model).function
        with torch.no_grad():
            loss(model, self._take_first(self._first_size))

    def make_stepper(self, batch_size: int) -> Training | UserStep:
        """Return what is stepped at this size: the user's own step, or a fresh training."""
        if self.is_step_only:
            assert self.names.step is not None
            step = self.settings.call(self.names.step, batch_size, self.device)
            if not callable(step):
                raise WorkloadError(
                    f"make_step returned a {type(step).__name__}, not a function",
                    next_step="Return a function without arguments that runs one training step.",
                )
            return UserStep(step)
        return self.make_training()

    def make_optimizer(self, model: nn.Module) -> Optimizer:
        """Return the user's optimizer over the model, else AdamW; or WorkloadError."""
        if self.names.make_optimizer is not None:
            optimizer = self._maker.make("make_optimizer", model)
        elif lightning.is_lightning_type(type(model)):
            optimizer = lightning.configured_optimizer(model)
        else:
            optimizer = torch.optim.AdamW([p for p in parameters_in(model) if p.requires_grad])
        several = optimizer.values() if isinstance(optimizer, dict) else optimizer
        if isinstance(several, Collection) and sum(isinstance(o, Optimizer) for o in several) > 1:
            raise WorkloadError(
                f"{self.how_optimizer(model)} returned {len(several)} optimizers",
                next_step="Return one with a parameter group for each, or write "
                "make_step(batch_size, device), which steps them as your loop does.",
            )
        if not isinstance(optimizer, Optimizer):
            raise WorkloadError(
                f"{self.how_optimizer(model)} returned a {type(optimizer).__name__}",
                next_step="Return one torch.optim.Optimizer from make_optimizer(model); a "
                "scheduler is for make_scheduler(optimizer, total_steps).",
            )
        own = set(map(id, parameters_in(model)))
        if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            raise WorkloadError(
                f"{self.how_optimizer(model)} returned a {type(optimizer).__name__} over none of "
                "the parameters of the model it was given: the model would not be trained",
                next_step="Make it of the model that make_optimizer(model) is handed, as "
                "torch.optim.SGD(model.parameters(), lr=0.1).",
            )
        restart_rates(optimizer)
        check_rates(optimizer)
        return optimizer

    def make_scheduler(self, training: Training, total_steps: int) -> LRScheduler | None:
        """Return the user's schedule from the optimizer's present rates on, None without one.

        A LightningModule's is taken where it asks its Trainer for the number of steps.

        Raises:
            WorkloadError: The function returns something else than a scheduler of this optimizer.
        """
        model, optimizer = training.model, training.optimizer
        for group in optimizer.param_groups:
            group.pop("initial_lr", None)  # an earlier scheduler's, which a new one would keep
        if self.names.make_scheduler is not None:
            made = self.settings.call(self.names.make_scheduler, optimizer, total_steps)
            return check_scheduler(made, optimizer)
        if self.names.make_optimizer is None and lightning.is_lightning_type(type(model)):
            return lightning.follow_scheduler(model, optimizer, total_steps)
        return None

    def how_optimizer(self, model: nn.Module) -> str:
        """Return one sentence on where the optimizer comes from."""
        if self.names.make_optimizer is not None:
            return "make_optimizer of the model file"
        if lightning.is_lightning_type(type(model)):
            return "configure_optimizers of the LightningModule"
        return "the model file has no make_optimizer, so AdamW with torch's defaults stands in"

    def loss(self, model: nn.Module) -> Loss:
        """Return the loss, inferred once for the workload where the file has none.

        The forward pass that infers it leaves neither gradients nor changed statistics behind.
        """
        if self._loss is None:
            loss_fn, batch = self.names.loss_fn, None
            if loss_fn is not None:
                loss_fn = self.settings.bind(loss_fn, positional=2)
            elif not lightning.is_lightning_type(type(model)):
                batch = self._take_first(self._first_size)
            with torch.no_grad(), torch.random.fork_rng(devices=[]), preserve_buffers(model):
                self._loss = find_loss(
                    model, batch, loss_fn, take_more=lambda: self._take_first(_LOOKED_AT)
                )
        return self._loss

    def _take_first(self, count: int) -> Any:
        return self.take(range(min(count, self.batches.size or count)))

    def draw(self, batch_size: int, generator: torch.Generator) -> Any:
        """Return a random batch on the device; None with `make_step`."""
        return (
            None if self.is_step_only else self.to_device(self.batches.draw(batch_size, generator))
        )

    def take(self, indices: Sequence[int]) -> Any:
        """Return the batch of these samples on the device; None with `make_step`."""
        return None if self.is_step_only else self.to_device(self.batches.take(indices))

    @property
    def rows(self) -> tuple[Tensor, ...] | None:
        """What collating samples would stack; None where the dataset is not rows of tensors."""
        if (
            self.is_step_only
            or type(self.data.dataset) is not TensorDataset
            or self.data.collate is not None
        ):
            return None
        return self.data.dataset.tensors

    def gather(self, indices: Sequence[int]) -> Any:
        """Return the batch of these samples as `take` does, at once where they are rows of tensors.

        Not where memory is measured: indexing has its own use of threads and heap.
        """
        if self.rows is None:
            return self.take(indices)
        chosen = torch.as_tensor(list(indices), device="cpu")
        return self.to_device([tensor[chosen] for tensor in self.rows])

    def take_worst(self, size: int, largest_samples: Sequence[int]) -> Any:
        """Return the batch that takes the most memory, on the device; None with `make_step`.

        Samples are used again where there are fewer; `largest_samples` has indices, largest first,
        none where all have one size.
        """
        return None if self.is_step_only else self.take(self.list_worst(size, largest_samples))

    def list_worst(self, size: int, largest_samples: Sequence[int]) -> list[int]:
        """Return the indices of the batch that `take_worst` takes."""
        order = largest_samples or range(min(size, self.batches.size or size))
        return [order[i % len(order)] for i in range(size)]

    def to_device(self, batch: Any) -> Any:
        """Return the batch on the workload's device."""
        return to_device(batch, self.device)
