"""What the user asks of a command."""

from advisor.advice.data import Scenario
from advisor.engine.spec import Spec
from advisor.training.data import Variant


class ProbeSpec(Spec, frozen=True, kw_only=True):
    """One `bsadvisor probe`: the workload and the limits.

    Attributes:
        variants: Other precisions, compiled or not, to compare with the workload's own.
        scenario: What to work out on paper.
    """

    variants: tuple[Variant, ...] = ()
    scenario: Scenario = Scenario()
