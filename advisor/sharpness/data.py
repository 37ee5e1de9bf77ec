"""What is asked of sharpness, what was seen of it, and what follows: the types."""

from typing import Literal

import msgspec


class Curvature(msgspec.Struct, frozen=True, kw_only=True):
    """The largest eigenvalue of the Hessian of the mean loss, over fixed samples.

    Attributes:
        at_step: Optimizer steps taken before.
        samples: Behind it; the same ones at every point.
        micro_batch_size: In which they entered, for the loss is one of batches.
        largest_eigenvalue: Of the Hessian H, in its sign; too low where it has not converged. None
            where it is not known.
        preconditioned_eigenvalue: Of P^½ H P^½ with P = 1/(sqrt(v̂)+ε) of an Adam-like optimizer, H
            that of the sum where the loss sums over its batch; None where the optimizer has no such
            state yet.
        products: Products of the Hessian with a vector behind both.
        converged: Whether the first moved by less than 1 % over the last two products.
        preconditioned_converged: Whether the second did.
        elapsed_s: Seconds of measuring.
        reason: Why a value is missing; None where none is.
    """

    at_step: int
    samples: int
    micro_batch_size: int
    largest_eigenvalue: float | None = None
    preconditioned_eigenvalue: float | None = None
    products: int = 0
    converged: bool = False
    preconditioned_converged: bool = False
    elapsed_s: float = 0.0
    reason: str | None = None


StabilityStatus = Literal["measured", "not_measured"]


class StabilityPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The sharpness at one point of the trajectory.

    Attributes:
        at_step: Optimizer steps taken before.
        sharpness: Largest eigenvalue of the Hessian of the mean loss.
        preconditioned_sharpness: The same in the optimizer's metric; None without one.
        is_lower_bound: Whether the eigenvalue that bounds the rate had not converged, so that the
            largest stable rate may be lower.
        largest_stable_rate: Rate above which full-batch training would leave this point; None where
            no formula is known for the optimizer, or the loss curves downwards only.
        base_rate_ratio: The base rate over it.
        advised_rate_ratio: The advised rate over it.
    """

    at_step: int
    sharpness: float | None
    preconditioned_sharpness: float | None = None
    is_lower_bound: bool = False
    largest_stable_rate: float | None = None
    base_rate_ratio: float | None = None
    advised_rate_ratio: float | None = None


class StabilityConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The sharpness along training, and the rates beside the limit that follows from it.

    Attributes:
        status: `measured` where one point at least has a sharpness.
        reason: Why there is none, or why points are missing; empty where nothing is.
        formula: The limit in words and symbols; None where none is known for the optimizer.
        samples: Behind each eigenvalue.
        points: The trajectory.
        hint: One sentence that sets the rates beside the limit; None where there is no limit. It
            changes no rate.
    """

    status: StabilityStatus
    reason: str = ""
    formula: str | None = None
    samples: int | None = None
    points: tuple[StabilityPoint, ...] = ()
    hint: str | None = None
