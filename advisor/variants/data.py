"""What is asked of variants, what was seen of it, and what follows: the types."""

import msgspec

from advisor.device.data import Telemetry
from advisor.engine.record import Series
from advisor.memory.data import Probe
from advisor.predict.data import PredictedMemory, StepCost
from advisor.rate.data import TrialBranch
from advisor.statistics import Estimate
from advisor.training.data import Precision


class VariantRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One precision, compiled or not, as it was measured beside the run's own.

    The run's own comes first; its probes are the run's, so that only its loss runs are here.

    Attributes:
        precision: Arithmetic of the training step.
        compile: Whether the model went through `torch.compile`.
        probes: As in a run, of its memory and its throughput stage.
        telemetry: As in a run.
        predicted_memory: As in a run.
        step_cost: As in a run.
        losses: Short training runs at the user's own batch and rate, one for each seed; those of
            all variants start from the same weights and see the same samples.
        missing_because: Why memory or speed were not measured, or not to their end.
        loss_missing_because: Why there are no such training runs.
        elapsed_s: Wall clock of its own stages.
    """

    precision: Precision
    compile: bool = False
    probes: tuple[Probe, ...] = ()
    telemetry: tuple[Telemetry, ...] = ()
    predicted_memory: PredictedMemory | None = None
    step_cost: StepCost | None = None
    losses: tuple[TrialBranch, ...] = ()
    missing_because: str | None = None
    loss_missing_because: str | None = None
    elapsed_s: float | None = None


class LossAtEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Where short training runs ended, over their seeds.

    Attributes:
        loss: Mean over the seeds of the loss at the end.
        difference: Mean over the seeds of the loss minus that of the first variant from the same
            seed, with its interval; None for the first itself, or without a seed in common.
        seeds: Runs behind it.
        diverged: Runs of which a loss was not finite; they are in neither mean.
        steps: Optimizer steps of each.
        batch_size: Samples of each step.
    """

    loss: Estimate
    difference: Estimate | None
    seeds: int
    diverged: int
    steps: int
    batch_size: int


class VariantConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """One variant beside the first, which is the one that the recommendation is for.

    Attributes:
        precision: Arithmetic of the training step.
        compile: Whether the model went through `torch.compile`.
        max_micro_batch_size: The largest that fits; None where that was not measured.
        verified: Whether the next larger size was seen not to fit, or memory is not what ends it.
        saturation_batch_size: Where larger batches stop being faster; None where not known.
        micro_batch_size: The size at which all variants are compared: the advised one; None where
            none is advised.
        samples_per_s: Speed there.
        speed_ratio: That over the first variant's; None for the first.
        best_micro_batch_size: Where this variant is fastest.
        best_samples_per_s: Speed there.
        best_speed_ratio: That over the first variant's at its own fastest size.
        machine_speed_ratio: Speed of the canary's fixed matrix product over that beside the first
            variant; off 1, the machine itself changed in between. None for the first, and where the
            precision changes that product.
        graphs: Graphs that torch.compile made before the timed blocks, in all sessions together;
            None where it was not asked to.
        loss: After the same steps; None where there were none.
        missing_because: Why memory or speed were not measured, or not to their end.
        loss_missing_because: Why there is no loss.
    """

    precision: Precision
    compile: bool
    max_micro_batch_size: int | None = None
    verified: bool = False
    saturation_batch_size: int | None = None
    micro_batch_size: int | None = None
    samples_per_s: Estimate | None = None
    speed_ratio: Estimate | None = None
    best_micro_batch_size: int | None = None
    best_samples_per_s: Estimate | None = None
    best_speed_ratio: Estimate | None = None
    machine_speed_ratio: float | None = None
    graphs: int | None = None
    loss: LossAtEnd | None = None
    missing_because: str | None = None
    loss_missing_because: str | None = None


VARIANTS = Series("variants", VariantRecord)
