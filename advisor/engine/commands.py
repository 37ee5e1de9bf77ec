"""What the user asks of a command."""

import msgspec

from advisor.advice.data import Scenario
from advisor.engine.spec import Spec
from advisor.training.data import Variant, WorkloadSpec


class ProbeSpec(Spec, frozen=True, kw_only=True):
    """One `bsadvisor probe`: the workload and the limits.

    Attributes:
        variants: Other precisions, compiled or not, to compare with the workload's own.
        scenario: What to work out on paper.
    """

    variants: tuple[Variant, ...] = ()
    scenario: Scenario = Scenario()


class LrRangeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One `bsadvisor lr-range`: the workload, the batch and the range.

    Attributes:
        global_batch_size: Samples of each optimizer step; None takes the base batch, or 32, and no
            more than the dataset has.
        micro_batch_size: Splits the batch; None does not.
        low_rate: None takes 1/10,000 of the optimizer's own rate.
        high_rate: None takes 1,000 times that rate.
        steps: Of each curve.
        seeds: Curves.
        budget_s: Wall clock for the whole command.
    """

    workload: WorkloadSpec
    global_batch_size: int | None = None
    micro_batch_size: int | None = None
    low_rate: float | None = None
    high_rate: float | None = None
    steps: int = 200
    seeds: int = 3
    budget_s: float = 120.0
