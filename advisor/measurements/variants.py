"""The same training in another precision, or compiled: what its own stages saw."""

import msgspec

from advisor.measurements.machine import Telemetry
from advisor.measurements.probe import Probe
from advisor.measurements.training import TrialBranch
from advisor.memory_trace import PredictedMemory, StepCost
from advisor.spec import Precision


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
