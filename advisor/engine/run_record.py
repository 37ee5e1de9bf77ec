"""What a run is asked and what it saw."""

from advisor.advice.data import Scenario
from advisor.derived import Derived
from advisor.device.data import Telemetry
from advisor.engine.record import Record
from advisor.loader.data import LoaderTiming
from advisor.memory.data import Probe
from advisor.noise.data import NoiseBatches, NoiseLogEntry
from advisor.predict.data import Breakdown, PredictedMemory, PredictedWhatIf, StepCost
from advisor.rate.data import LrRangeCurve, TrialBranch
from advisor.sharpness.data import Sharpness
from advisor.soak.data import Soak
from advisor.variants.data import VariantRecord
from advisor.verify.data import VerificationRecord


class RunRecord(Record, frozen=True, kw_only=True):
    """Everything one run saw, in the order it ran.

    Attributes:
        created_at: ISO 8601, UTC.
        complete: False where the run was cut short.
        workload: None where the model file was not understood before the run ended.
        telemetry: Counters over the throughput sessions, one for each.
        predicted_memory: The peaks by the model's trace that led the memory search; None where
            there was none.
        step_cost: What a step must compute and move, by that trace.
        peak: What holds the memory at the advised size, by that trace; None where memory does not
            limit the advice.
        what_ifs: The peaks with the changes that save memory, likewise by traces.
        variants: The precisions and compilations that were asked for beside the run's own, that one
            first; empty where none was.
        verification: What `verify` trained to test the recommendation; None where it did not run.
        noise_log: What a real run measured of its gradients, as `--noise-log` gave it.
        lr_ranges: Curves of the range test, where no base rate is known.
        stopped_because: Why the run is incomplete.
        elapsed_s: Wall clock so far.
    """

    scenario: Scenario | None = None
    probes: tuple[Probe, ...] = ()
    telemetry: tuple[Telemetry, ...] = ()
    noise_batches: tuple[NoiseBatches, ...] = ()
    sharpness: tuple[Sharpness, ...] = ()
    loader_timings: tuple[LoaderTiming, ...] = ()
    trials: tuple[TrialBranch, ...] = ()
    lr_ranges: tuple[LrRangeCurve, ...] = ()
    soaks: tuple[Soak, ...] = ()
    predicted_memory: PredictedMemory | None = None
    step_cost: StepCost | None = None
    peak: Breakdown | None = None
    what_ifs: tuple[PredictedWhatIf, ...] = ()
    variants: tuple[VariantRecord, ...] = ()
    verification: VerificationRecord | None = None
    noise_log: tuple[NoiseLogEntry, ...] = ()


class RunDocument(RunRecord, frozen=True, kw_only=True):
    """The JSON document: the record and what follows from it."""

    derived: Derived
