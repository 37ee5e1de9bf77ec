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
from advisor.training.model_file.loading import ModelFile
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
        closure: How the optimizer was seen to be stepped; None where its signature alone tells.
    """

    def __init__(self, spec: WorkloadSpec) -> None:
        self.spec = spec
        self.file = ModelFile(parse_target(spec.target), spec.settings)
        self.target, self.names = self.file.target, self.file.names
        self.device = resolve_device(spec.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # the user's own .cuda() calls must agree
        if spec.precision == "tf32":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
        self.is_step_only = self.names.make_step is not None
        self.data = TrainingData(self.file, spec.base_batch_size)
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
        model = self.file.make("model")
        if not isinstance(model, nn.Module):
            raise WorkloadError(
                f"{self.names.how_model} returned a {type(model).__name__}, not an nn.Module",
                next_step="Return the model from it.",
            )
        is_lightning = lightning.is_lightning_type(type(model))
        if is_lightning:
            model = lightning.prepare(model, lambda: self.data.data_module)
        with running(f"{type(model).__name__}.to({self.device}) and train(True)"):
            # The user's own may return nothing, or have no default.
            moved: object = model.to(self.device)
            model = moved if isinstance(moved, nn.Module) else model
            model.train(True)
        if next(parameters_in(model), None) is None:
            raise WorkloadError(
                f"{self.names.how_model} has no parameters: {type(model).__name__} is no model to "
                "train",
                next_step="Name the model with FILE:NAME, or add make_model() to the file; run it "
                "once on a batch there where its layers are made at the first call.",
            )
        if is_lightning:
            lightning.start(model)
        return model

    def make_training(
        self,
        *,
        precision: Precision | None = None,
        wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    ) -> Training:
        """Return a fresh model, which `wrap` spreads over ranks, and its optimizer."""
        model = self.make_model()
        loss_function = self.loss(model).function
        if any(map(is_lazy, (*parameters_in(model), *model.buffers()))):  # it has no sizes yet
            with torch.no_grad():
                loss_function(model, self._take_first(self._first_size))
        wrapped = wrap(model)  # before it has an optimizer
        return self.assemble(wrapped, self.make_optimizer(model), precision)

    def assemble(
        self, model: nn.Module, optimizer: Optimizer, precision: Precision | None = None
    ) -> Training:
        """Return the training of a model whose loss is known."""
        return Training(
            model=model,
            optimizer=optimizer,
            loss_function=self.loss(model).function,
            device=self.device,
            precision=precision or self.spec.precision,
            compile_model=self.spec.compile,
            clip_grad_norm=self.names.clip_grad_norm,
            closure=self.closure,
        )

    def make_stepper(self, batch_size: int) -> Training | UserStep:
        """Return what is stepped at this size: the user's own step, or a fresh training."""
        if self.names.make_step is None:
            return self.make_training()
        step = self.file.call(self.names.make_step, batch_size, self.device)
        if not callable(step):
            raise WorkloadError(
                f"make_step returned a {type(step).__name__}, not a function",
                next_step="Return a function without arguments that runs one training step.",
            )
        return UserStep(step)

    def make_optimizer(self, model: nn.Module) -> Optimizer:
        """Return the user's optimizer over the model, else AdamW; or WorkloadError."""
        optimizer: Any
        if self.names.make_optimizer is not None:
            optimizer = self.file.make("make_optimizer", model)
        elif lightning.is_lightning_type(type(model)):
            optimizer = lightning.configured_optimizer(model)
        else:
            optimizer = torch.optim.AdamW([p for p in parameters_in(model) if p.requires_grad])
        several = optimizer.values() if isinstance(optimizer, dict) else optimizer
        returned, own = f"a {type(optimizer).__name__}", set(map(id, parameters_in(model)))
        if isinstance(several, Collection) and sum(isinstance(o, Optimizer) for o in several) > 1:
            returned = f"{len(several)} optimizers"
            next_step = (
                "Return one with a parameter group for each, or write make_step(batch_size, "
                "device), which steps them as your loop does."
            )
        elif not isinstance(optimizer, Optimizer):
            next_step = (
                "Return one torch.optim.Optimizer from make_optimizer(model); a scheduler is for "
                "make_scheduler(optimizer, total_steps)."
            )
        elif not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            returned += " over none of the parameters of the model it was given: the model would "
            returned += "not be trained"
            next_step = (
                "Make it of the model that make_optimizer(model) is handed, as "
                "torch.optim.SGD(model.parameters(), lr=0.1)."
            )
        else:
            restart_rates(optimizer)
            check_rates(optimizer)
            return optimizer
        raise WorkloadError(f"{self.how_optimizer(model)} returned {returned}", next_step=next_step)

    def make_scheduler(self, training: Training, total_steps: int) -> LRScheduler | None:
        """Return the user's schedule from the optimizer's present rates on, None without one.

        WorkloadError where the function returns something else than a scheduler of this optimizer.
        """
        model, optimizer = training.model, training.optimizer
        for group in optimizer.param_groups:
            group.pop("initial_lr", None)  # an earlier scheduler's, which a new one would keep
        if self.names.make_scheduler is not None:
            made = self.file.call(self.names.make_scheduler, optimizer, total_steps)
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
        """Return the loss, inferred once where the file has none; that leaves no traces behind."""
        if self._loss is None:
            loss_fn, batch = self.names.loss_fn, None
            if loss_fn is not None:
                loss_fn = self.file.bind(loss_fn, positional=2)
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
        return self.to_device(self.batches.draw(batch_size, generator))

    def take(self, indices: Sequence[int]) -> Any:
        """Return the batch of these samples on the device; None with `make_step`."""
        return self.to_device(self.batches.take(indices))

    @property
    def rows(self) -> tuple[Tensor, ...] | None:
        """What collating samples would stack; None where the dataset is not rows of tensors."""
        dataset = self.data.dataset
        is_rows = type(dataset) is TensorDataset and self.data.collate is None
        return dataset.tensors if is_rows else None

    def gather(self, indices: Sequence[int]) -> Any:
        """Return the batch of these samples as `take` does, at once where they are rows of tensors.

        Not where memory is measured: indexing has its own use of threads and heap.
        """
        if self.rows is None:
            return self.take(indices)
        chosen = torch.as_tensor(list(indices), device="cpu")
        return self.to_device([tensor[chosen] for tensor in self.rows])

    def take_worst(self, size: int, largest_samples: Sequence[int]) -> Any:
        """Return the batch that takes the most memory, on the device; None with `make_step`."""
        return self.take(self.list_worst(size, largest_samples))

    def list_worst(self, size: int, largest_samples: Sequence[int]) -> list[int]:
        """Return the indices of the batch that takes the most memory, some twice if there are few.

        `largest_samples` has indices, largest first, none where all have one size.
        """
        order = largest_samples or range(min(size, self.batches.size or size))
        return [order[i % len(order)] for i in range(size)]

    def to_device(self, batch: Any) -> Any:
        """Return the batch on the workload's device."""
        return to_device(batch, self.device)
