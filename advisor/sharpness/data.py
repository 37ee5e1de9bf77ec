"""What is asked of sharpness, what was seen of it, and what follows: the types."""

from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask
from advisor.figures import Count, Figure, Size
from advisor.noise.data import Trajectory


class Sharpness(msgspec.Struct, frozen=True, kw_only=True):
    """The largest eigenvalue λ of the Hessian H of the mean loss, over fixed samples."""

    #: Optimizer steps taken before.
    at_step: Count
    #: Behind it; the same ones at every point.
    samples: Count
    #: In which they entered, for the loss is one of batches.
    micro_batch_size: Size
    #: λ in its sign; too low where it has not converged; None where it is not known.
    largest_eigenvalue: Figure | None = None
    #: That of P^½ H P^½ with P = 1/(sqrt(v̂)+ε) of an Adam-like optimizer, H that of the sum where
    #: the loss sums over its batch; None where the optimizer has no such state yet.
    preconditioned_eigenvalue: Figure | None = None
    #: Of the Hessian with a vector, behind both.
    products: Count = 0
    converged: bool = False
    preconditioned_converged: bool = False
    #: Why a value is missing; None where none is.
    reason: str | None = None


class SharpnessTask(WorkloadTask[Sharpness], frozen=True, kw_only=True):
    """Measure the sharpness at the points of a trajectory."""

    runs: ClassVar[str] = "advisor.sharpness.measure:run"
    trajectory: Trajectory
    #: Samples of one micro-batch whose gradient is differentiated again.
    micro_batch_size: int


class SharpnessPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The sharpness at one point of the trajectory, and the rates beside the limit there."""

    at_step: int
    sharpness: float | None
    preconditioned_sharpness: float | None = None
    #: Whether the eigenvalue that bounds the rate had not converged: the limit may be lower.
    is_lower_bound: bool = False
    #: Above it full-batch training would leave this point; None where no formula is known for the
    #: optimizer, or the loss curves downwards only.
    largest_stable_rate: float | None = None
    #: The base rate over it, and the advised one.
    base_rate_ratio: float | None = None
    advised_rate_ratio: float | None = None


class SharpnessConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The sharpness along training, and the rates beside the limit that follows from it."""

    #: `measured` where one point at least has a sharpness.
    status: Literal["measured", "not_measured"]
    #: Why there is none, or why points are missing.
    reason: str = ""
    #: The limit in symbols; None where none is known for the optimizer.
    formula: str | None = None
    #: Behind each eigenvalue.
    samples: int | None = None
    points: tuple[SharpnessPoint, ...] = ()
    #: The rates beside the limit, in one sentence; None without a limit. It changes no rate.
    hint: str | None = None


SHARPNESS = Series("sharpness", Sharpness)
