"""Other precisions, compiled or not, beside the run's own: what was seen, and what follows."""

from typing import Any

import msgspec

from advisor.device.data import Telemetry
from advisor.engine.record import Key, Series
from advisor.figures import Duration
from advisor.memory.data import PROBES, Probe
from advisor.predict.data import PREDICTED_MEMORY, STEP_COST, PredictedMemory, StepCost
from advisor.rate.data import TrialBranch
from advisor.statistics import Estimate
from advisor.throughput.data import TELEMETRY
from advisor.training.data import Variant


class VariantRecord(Variant, frozen=True, kw_only=True):
    """One variant as it was measured; the run's own comes first, and has its loss runs alone."""

    #: Of its memory and its throughput stage.
    probes: tuple[Probe, ...] = ()
    telemetry: tuple[Telemetry, ...] = ()
    predicted_memory: PredictedMemory | None = None
    step_cost: StepCost | None = None
    #: At the user's own batch and rate, one for each seed; those of all variants start from the
    #: same weights and see the same samples.
    losses: tuple[TrialBranch, ...] = ()
    #: Why memory or speed were not measured, or not to their end.
    missing_because: str | None = None
    loss_missing_because: str | None = None
    #: Wall clock of its own stages.
    elapsed_s: Duration | None = None


class LossAtEnd(msgspec.Struct, frozen=True, kw_only=True):
    """Where short training runs ended, over their seeds; those that diverged are in no mean."""

    loss: Estimate
    #: Over that of the first variant from the same seed; None for the first, or without a seed in
    #: common.
    difference: Estimate | None
    seeds: int
    #: Runs of which a loss was not finite.
    diverged: int
    #: Optimizer steps of each.
    steps: int
    batch_size: int


class VariantConclusion(Variant, frozen=True, kw_only=True):
    """One variant beside the first, which is the one that the recommendation is for."""

    max_micro_batch_size: int | None = None
    #: Whether the next larger size was seen not to fit, or memory is not what ends it.
    verified: bool = False
    #: Where larger batches stop being faster; None where not known.
    saturation_batch_size: int | None = None
    #: The advised size, at which all are compared; None where none is advised.
    micro_batch_size: int | None = None
    samples_per_s: Estimate | None = None
    #: Speed there over the first variant's; None for the first.
    speed_ratio: Estimate | None = None
    #: Where this variant is fastest.
    best_micro_batch_size: int | None = None
    best_samples_per_s: Estimate | None = None
    #: Speed there over the first variant's at its own fastest size.
    best_speed_ratio: Estimate | None = None
    #: Speed of the calibration's matrix product over that beside the first variant; off 1, the
    #: machine itself changed. None for the first, and where the precision changes that product.
    machine_speed_ratio: float | None = None
    #: That torch.compile made in all sessions; None where it was not asked to.
    graphs: int | None = None
    #: After the same steps; None where there were none.
    loss: LossAtEnd | None = None
    missing_because: str | None = None
    loss_missing_because: str | None = None


VARIANTS = Series("variants", VariantRecord)
#: What a variant has of a run: its fields of the same names.
STAGES: tuple[Key, ...] = (PROBES, TELEMETRY, PREDICTED_MEMORY, STEP_COST)


def copy_stages(source: msgspec.Struct) -> dict[str, Any]:
    """Return what the stages of a variant left, by key: from its own record, or from a run's."""
    return {key.name: getattr(source, key.name) for key in STAGES}
