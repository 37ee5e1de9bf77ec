"""What is taken of a run, since it belongs to model and data, and what follows for a card."""

from typing import Annotated, Literal

import msgspec

from advisor.advice.data import Bounds
from advisor.engine.record import Series, Slot
from advisor.figures import Bytes, Count, Factor, Figure, Seconds, Size, Weight
from advisor.training.data import Precision

#: Where the seconds of a step come from: a run on that very card; such a run on another, scaled; or
#: what no implementation can go below.
Basis = Literal["measured", "predicted", "bounded"]


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio with its interval of 95 %."""

    point: Factor
    low: Factor
    high: Factor


class TrainedPair(msgspec.Struct, frozen=True, kw_only=True):
    """A batch and its best rate, trained from the same starts as the base pair."""

    global_batch_size: Size
    learning_rate: Figure
    #: How the run made it, and the seconds of a step in the user's loop on the run's device.
    micro_batch_size: Size
    gradient_accumulation_steps: Size
    step_s: Seconds
    #: Samples to the same loss, over the base pair's.
    sample_ratio: Ratio


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What a run says of a training wherever it takes place, and how fast it was where it ran."""

    #: The file, as typed, and what it must have in common with the prediction.
    run: str
    precision: Precision
    #: As `--set` takes them, by name.
    settings: tuple[str, ...] = ()
    file_sha256: str | None = None
    parameter_count: Count | None = None
    device: str
    #: The advised pair comes first.
    pairs: Annotated[tuple[TrainedPair, ...], msgspec.Meta(min_length=1, max_length=1000)]
    #: The largest micro-batch that the run saw to fit.
    largest_micro_batch_size: Size
    may_split: bool = True
    #: That each rank exchanges, and that accumulating holds; None where not known.
    gradient_bytes: Bytes | None = None
    #: That the whole training takes at the base batch; None where the user did not say.
    samples: Weight | None = None


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What an hour of a card costs, in any currency."""

    #: As `find_gpu` takes it; None holds for every card that has no price of its own.
    gpu: str | None
    per_hour: Factor


class CardAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How to train on one card, and for how long.

    Batch and rate were trained in the run; the micro-batch is by the predicted memory, on the run's
    own card as measured.
    """

    gpu: str
    #: From 1; None where neither time nor a bound of it is known.
    rank: int | None = None
    #: Of step, training and price.
    basis: Basis | None = None
    #: None where no batch that was trained fits, and then the reason.
    global_batch_size: int | None = None
    micro_batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    learning_rate: float | None = None
    #: Others that were trained, and that may be faster on this card by how its steps may scale.
    may_be_faster: tuple[int, ...] = ()
    step_s: Bounds | None = None
    #: Of `training_samples` at the base batch, or as few as this pair takes in their place.
    training_samples: float | None = None
    training_s: Bounds | None = None
    price_per_hour: float | None = None
    training_price: Bounds | None = None
    #: Why something is not known; without a full stop.
    reason: str = ""


#: What was taken of the run; None where none was given.
TRAINING = Slot("training", Training)
PRICES = Series("prices", Price)
