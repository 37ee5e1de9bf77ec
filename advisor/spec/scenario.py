"""Training as the user plans it, beyond what this machine can run: for figures on paper."""

from typing import Literal

import msgspec


class Interconnect(msgspec.Struct, frozen=True, kw_only=True):
    """What gradients travel over between the GPUs.

    Attributes:
        name: As the tool prints it.
        bytes_per_s: For each GPU and direction.
        source: Where the bandwidth comes from.
    """

    name: str
    bytes_per_s: float
    source: str


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A point of the user's own training run.

    Attributes:
        at: Optimizer steps at the base batch, or epochs.
    """

    at: float
    unit: Literal["step", "epoch"] = "step"


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What to work out on paper.

    Attributes:
        gpus: Numbers of GPUs like this one to compare; empty means one, as measured.
        price_per_gpu_hour: In any currency; None leaves costs in GPU time.
        interconnect: Between the GPUs; None where it was not stated.
        samples: That training takes at the base batch; None where not stated.
        epochs: The same in passes over the dataset; at most one of both is given.
        milestones: Where the user's schedule cuts the learning rate, ascending.
        gamma: What it multiplies the rate with at each of them.
        cosine: Where the user's cosine schedule ends; None where there is none.
    """

    gpus: tuple[int, ...] = ()
    price_per_gpu_hour: float | None = None
    interconnect: Interconnect | None = None
    samples: int | None = None
    epochs: float | None = None
    milestones: tuple[Moment, ...] = ()
    gamma: float = 0.1
    cosine: Moment | None = None

    @property
    def asks_for_frontier(self) -> bool:
        """Whether the user asked for more than what one device shows by itself."""
        return bool(
            self.gpus
            or self.price_per_gpu_hour is not None
            or self.interconnect is not None
            or self.samples is not None
            or self.epochs is not None
        )
