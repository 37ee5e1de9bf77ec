"""What the curvature says about the rate: a hint, never the judge."""

from typing import Literal

import msgspec

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
