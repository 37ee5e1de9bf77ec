"""What `bsadvisor verify` asks."""

import msgspec


class VerifySpec(msgspec.Struct, frozen=True, kw_only=True):
    """One `bsadvisor verify`: the model file of a saved run, and how far to go.

    Attributes:
        target: `path.py`, `path.py:name`, or `package.module:name`, as typed.
        device: As in `WorkloadSpec`.
        seeds: Orders of the data, from 0; every batch is trained with each. None takes 3, and more
            where they are needed and time allows.
        samples: Samples of each branch; None lets the budget decide.
        batches: Global batches; empty takes 1/4, 1/2, 1, 2 and 4 times the recommended one.
        budget_s: Wall clock for the whole command.
        restart: Whether branches that are already stored are trained again.
        checkpoint: File of saved weights from which the branches start; None trains to their start.
    """

    target: str
    device: str = "auto"
    seeds: int | None = None
    samples: int | None = None
    batches: tuple[int, ...] = ()
    budget_s: float = 120.0
    restart: bool = False
    checkpoint: str | None = None
