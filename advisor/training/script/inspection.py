"""The first steps of one start of the script: what it is, as far as its hooks tell."""

import math
import statistics
import time

from msgspec.structs import replace
from torch import nn
from torch.optim import LBFGS

from advisor.training.data import WorkloadFacts, WorkloadSpec
from advisor.training.model_file.foreign import parameters_in
from advisor.training.observer import Observer, Step
from advisor.training.optimizer_facts import describe_optimizer, to_number
from advisor.training.script.arguments import Filling
from advisor.training.script.running import Ending, ScriptRun
from advisor.training.script.sight import ScriptSight

#: Enough for a second optimizer to take its turn, and for a schedule to move the rate.
_STEPS = 4


class _FirstSteps(Observer):
    """Reads the losses of a few steps, and what they were made of."""

    #: The start that it watches.
    run: ScriptRun

    def __init__(self) -> None:
        self.losses: list[float | None] = []
        self.passes = 1
        self._counts: list[tuple[int, int]] = []
        self.rates: set[float | None] = set()
        self.first_s = 0.0

    def before_step(self, step: Step) -> None:
        assert step.optimizer is not None
        self.first_s = self.first_s or time.perf_counter()
        self.rates.add(to_number(step.optimizer.param_groups[0].get("lr")))

    def after_step(self, step: Step) -> bool:
        """Read the loss: the mean of its backward passes."""
        loss = statistics.fmean(map(float, step.losses)) if step.losses else math.nan
        self.losses.append(loss if math.isfinite(loss) else None)
        self.passes = step.micro_batches
        self._counts.append(self.run.sizes.take_counts())
        return step.number < _STEPS

    def count(self, kind: int) -> int:
        """Return the usual number of a step's loads (0) or calls (1): some load ahead."""
        return statistics.median_low(counts[kind] for counts in self._counts)


def see_script(workload: WorkloadSpec, filling: Filling, emit: Ending) -> None:
    """Emit one ScriptSight, and end the process; WorkloadError where no optimizer step was seen."""
    steps, began_s = _FirstSteps(), time.perf_counter()
    run = steps.run = ScriptRun(workload, emit, observers=[steps], filling=filling, looks=True)

    def finish() -> None:
        stream, sizes = run.stream, run.sizes
        optimizer = stream.optimizer
        assert optimizer is not None
        for group, rate in zip(optimizer.param_groups, stream.given_rates, strict=False):
            group["lr"] = rate  # as the script gave it, whatever a schedule has made of it
        facts = replace(describe_optimizer(optimizer), needs_closure=isinstance(optimizer, LBFGS))
        emit(
            ScriptSight(
                filling=filling,
                facts=_describe_model(run, has_schedule=len(steps.rates) > 1),
                optimizer=facts,
                loader_size=sizes.loader,
                input_shape=sizes.shape,
                passes=steps.passes,
                loads=steps.count(0),
                calls=steps.count(1),
                other_steps=stream.others,
                is_perturbed=run.movement.is_perturbed,
                clips_values=stream.clips_values,
                losses=tuple(steps.losses),
                is_mean=bool(stream.is_mean),
                start_s=steps.first_s - began_s,
            )
        )

    run.follow(finish)


def _describe_model(run: ScriptRun, *, has_schedule: bool) -> WorkloadFacts:
    """Return what is known of the script's model and of what trains it."""
    sizes, script, optimizer = run.sizes, run.script, run.stream.optimizer
    assert optimizer is not None
    model = sizes.model
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    is_model = isinstance(model, nn.Module)
    everything = dict.fromkeys([*(parameters_in(model) if is_model else ()), *parameters])
    modules = list(model.modules()) if is_model else []
    maker = "the model file" if script.model_file else "the script"
    return WorkloadFacts(
        file=run.file,
        model_name="" if model is None else type(model).__name__,
        how_model=f"as {maker} makes it",
        how_loss="of its backward passes",
        how_optimizer=f"as {maker} makes it",
        how_batch="",  # one start does not tell
        parameter_count=sum(p.numel() for p in everything),
        trainable_parameter_count=sum(p.numel() for p in parameters if p.requires_grad),
        parameter_bytes=sum(p.numel() * p.element_size() for p in everything),
        dataset_size=sizes.dataset_size,
        has_scheduler=has_schedule
        or any("initial_lr" in group for group in optimizer.param_groups),
        clip_grad_norm=run.stream.most_norm,
        has_batch_statistics=sizes.has_batch_statistics,
        has_synchronised_statistics=any(isinstance(m, nn.SyncBatchNorm) for m in modules),
    )
