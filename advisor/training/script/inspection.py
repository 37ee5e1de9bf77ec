"""The first steps of one start of the script: what it is, as far as its hooks tell."""

import statistics
import time
from typing import Any

from msgspec.structs import replace
from torch import nn
from torch.optim import LBFGS

from advisor.training.data import OptimizerFacts, WorkloadSpec
from advisor.training.model_file.foreign import parameters_in
from advisor.training.observer import Observer, Step
from advisor.training.optimizer_facts import describe_optimizer, find_leading, to_number
from advisor.training.script.arguments import Filling
from advisor.training.script.ending import Ending
from advisor.training.script.losses import read_loss
from advisor.training.script.running import ScriptRun
from advisor.training.script.sight import ScriptSight
from advisor.training.script.sizes import Sizes

#: Enough for a second optimizer to take its turn, and for a schedule to move the rate.
_STEPS = 4


class _FirstSteps(Observer):
    """Reads the losses of a few steps, and what they were made of."""

    #: Of the script's batches.
    sizes: Sizes

    def __init__(self) -> None:
        self.losses: list[float | None] = []
        self.passes = 1
        self._counts: list[tuple[int, int]] = []
        self.rates: set[float | None] = set()
        self.first_s = 0.0

    def before_step(self, step: Step) -> None:
        """Note the rate, and when the first step came."""
        assert step.optimizer is not None
        self.first_s = self.first_s or time.perf_counter()
        self.rates.add(to_number(step.optimizer.param_groups[0].get("lr")))

    def after_step(self, step: Step) -> bool:
        """Read the loss."""
        self.losses.append(read_loss(step))
        self.passes = step.micro_batches
        self._counts.append(self.sizes.take_counts())
        return step.number < _STEPS

    def count(self, kind: int) -> int:
        """Return the usual number of a step's loads (0) or calls (1): some load ahead."""
        return statistics.median_low(counts[kind] for counts in self._counts)


def see_script(workload: WorkloadSpec, filling: Filling, emit: Ending) -> None:
    """Emit one ScriptSight, and end the process; WorkloadError where no optimizer step was seen."""
    steps, began_s = _FirstSteps(), time.perf_counter()
    run = ScriptRun(workload, emit, observers=[steps], filling=filling, looks=True)
    steps.sizes = run.sizes

    def finish() -> None:
        stream, sizes = run.stream, run.sizes
        optimizer, model = stream.optimizer, sizes.model
        assert optimizer is not None
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        is_model = isinstance(model, nn.Module)
        everything = dict.fromkeys([*(parameters_in(model) if is_model else ()), *parameters])
        modules = list(model.modules()) if is_model else []
        facts = replace(describe_optimizer(optimizer), needs_closure=isinstance(optimizer, LBFGS))
        emit(
            ScriptSight(
                filling=filling,
                loader_size=sizes.loader,
                input_shape=sizes.shape,
                passes=steps.passes,
                loads=steps.count(0),
                calls=steps.count(1),
                dataset_size=sizes.dataset_size,
                model_name="" if model is None else type(model).__name__,
                parameter_count=sum(p.numel() for p in everything),
                trainable_parameter_count=sum(p.numel() for p in parameters if p.requires_grad),
                parameter_bytes=sum(p.numel() * p.element_size() for p in everything),
                has_batch_statistics=sizes.has_batch_statistics,
                has_synchronised_statistics=any(isinstance(m, nn.SyncBatchNorm) for m in modules),
                optimizer=_with_given_rates(facts, stream.given_rates),
                other_steps=stream.others,
                is_perturbed=run.movement.is_perturbed,
                has_scheduler=len(steps.rates) > 1
                or any("initial_lr" in group for group in optimizer.param_groups),
                clip_grad_norm=stream.most_norm,
                clips_values=stream.clips_values,
                losses=tuple(steps.losses),
                is_mean=bool(stream.is_mean),
                start_s=steps.first_s - began_s,
            )
        )

    run.follow(finish)


def _with_given_rates(facts: OptimizerFacts, rates: tuple[Any, ...]) -> OptimizerFacts:
    """Return the facts with the rates that the script gave, whatever a schedule made of them."""
    numbers = [to_number(rate) for rate in rates]
    groups = tuple(
        replace(group, learning_rate=rate)
        for group, rate in zip(facts.groups, numbers, strict=False)
    )
    first = numbers[find_leading(numbers)] if numbers else None
    return replace(facts, learning_rate=first or facts.learning_rate, groups=groups)
