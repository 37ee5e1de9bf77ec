"""A run's training and the predicted memory -> how to train on each card, in order.

The advised pair of the run stands on every card: noise and rates belong to model and data. Another
that was trained takes its place only where it is surely faster, whichever way steps scale; one that
may be is named.
"""

import functools
import math
from collections.abc import Sequence

from msgspec.structs import replace

from advisor.advice.data import Bounds
from advisor.cards.data import PRICES, TRAINING, CardAnswer, Price, TrainedPair, Training
from advisor.cards.step_time import CardSteps, Split, scale_steps, take_steps
from advisor.device.catalogue import Gpu, find_gpu, recognise_gpu
from advisor.engine.record import Conclusions, Topic
from advisor.memory.split import split_batch
from advisor.predict.data import Prediction
from advisor.predict.footprint import find_general
from advisor.predict.prediction import Case, list_cards, predict_cards, predict_on, read_case
from advisor.predict.roofline import cost_step
from advisor.race.plan import LEAST_GAIN_RATIO

#: Samples whose time is told where the user did not say how long the training is.
USUAL_SAMPLES = 1e6
_SECONDS_PER_HOUR = 3600.0


def _conclude(conclusions: Conclusions) -> tuple[CardAnswer, ...] | None:
    """Return the cards in their order; None without a run, none where nothing was traced."""
    record, training = conclusions.record, conclusions.record.get(TRAINING)
    if training is None:
        return None
    return answer_cards(training, read_case(record), record.all(PRICES))


@functools.lru_cache(maxsize=1)  # as `predict_cards`: a record is saved several times
def answer_cards(
    training: Training, case: Case, prices: tuple[Price, ...] = ()
) -> tuple[CardAnswer, ...]:
    """Return how to train on each card, the fastest first, where each has a price the cheapest.

    A card counts with the most that it can take, so that no gain is taken on trust; those whose
    time is only bounded come after, by their bound.
    """
    cards = list_cards(case.asked) if case.traces else ()
    answers = [
        _price(_answer(training, gpu, one, case), gpu, prices)
        for gpu, one in zip(cards, predict_cards(case), strict=True)
    ]
    timed = [each for each in answers if each.training_s is not None]
    has_prices = all(each.training_price is not None for each in timed)

    def rank(answer: CardAnswer) -> tuple[bool, float, float]:
        ranked = answer.training_price if has_prices else answer.training_s
        assert ranked is not None
        return ranked.high is None, ranked.ranked, ranked.low

    ordered = (replace(each, rank=n) for n, each in enumerate(sorted(timed, key=rank), start=1))
    return (*ordered, *(each for each in answers if each.training_s is None))


ANSWERS = Topic("answers", tuple[CardAnswer, ...], _conclude)


def _answer(training: Training, gpu: Gpu, prediction: Prediction, case: Case) -> CardAnswer:
    timed_on = recognise_gpu(training.device)
    is_own = timed_on is not None and timed_on.name == gpu.name
    made = [
        (pair, split)
        for pair in training.pairs
        if (split := _split(pair, training, gpu, prediction, case, is_own=is_own)) is not None
    ]
    if not made:
        return CardAnswer(gpu=gpu.name, reason="no batch that was trained surely fits")
    pairs, splits = [pair for pair, _ in made], [split for _, split in made]
    trace, precision = find_general(case.traces), case.precision
    steps = take_steps(pairs) if is_own else None
    if not is_own and trace is not None:
        cost = cost_step(trace)
        steps = scale_steps(pairs, splits, cost, gpu=gpu, timed_on=timed_on, precision=precision)
    chosen, others = (0, ()) if steps is None or is_own else choose_pair(pairs, steps)
    pair, (size, count) = pairs[chosen], splits[chosen]
    answer = functools.partial(
        CardAnswer,
        gpu=gpu.name,
        global_batch_size=pair.global_batch_size,
        micro_batch_size=size,
        gradient_accumulation_steps=count,
        learning_rate=pair.learning_rate,
        may_be_faster=others,
    )
    if steps is None:
        return answer(reason="neither its peak arithmetic nor its bandwidth is known")
    samples, step_s = training.samples or USUAL_SAMPLES, steps.step_s[chosen]
    ratio, steps_taken = pair.sample_ratio, samples / pair.global_batch_size
    most = None if step_s.high is None else step_s.high * ratio.high * steps_taken
    return answer(
        basis=steps.basis,
        step_s=step_s,
        training_samples=samples,
        training_s=Bounds(low=step_s.low * ratio.low * steps_taken, high=most),
    )


def _split(
    pair: TrainedPair,
    training: Training,
    gpu: Gpu,
    prediction: Prediction,
    case: Case,
    *,
    is_own: bool,
) -> Split | None:
    """Return how a batch is made on a card: as in the run where that surely fits."""
    if is_own:
        return pair.micro_batch_size, pair.gradient_accumulation_steps
    part = largest = int(prediction.max_micro_batch_size.low or 0)
    if pair.global_batch_size > largest and training.gradient_bytes:
        # From one micro-batch to the next the gradients are held.
        held = prediction.headroom_bytes + training.gradient_bytes
        asked = replace(case.asked, headroom_bytes=held, micro_batch_size=None)
        fuller = replace(case, asked=asked, what_ifs=())
        part = int(predict_on(gpu, fuller).max_micro_batch_size.low or 0)
    return split_batch(
        pair.global_batch_size,
        largest=largest,
        largest_part=part,
        smallest=case.smallest,
        multiple=case.batch_multiple,
        preferred=pair.micro_batch_size,
        may_split=training.may_split,
    )


def choose_pair(pairs: Sequence[TrainedPair], steps: CardSteps) -> tuple[int, tuple[int, ...]]:
    """Return which pair to train with, the first unless another is surely faster; and which may be.

    Surely: by at least 5 % in every way in which steps may scale, at the far end of the interval of
    the samples.
    """
    # Time to the same loss, in any unit.
    ways = [
        [
            pair.sample_ratio.point * step_s / pair.global_batch_size
            for pair, step_s in zip(pairs, way, strict=True)
        ]
        for way in steps.ways
    ]
    chosen, least, base = 0, LEAST_GAIN_RATIO, pairs[0].sample_ratio
    for index, pair in enumerate(pairs):
        mine = pair.sample_ratio
        error = math.hypot(math.log(mine.high / mine.point), math.log(base.point / base.low))
        most = max(way[index] / way[0] for way in ways) * math.exp(error)
        if most <= least:
            chosen, least = index, most
    others = (
        pair.global_batch_size
        for index, pair in enumerate(pairs)
        if index != chosen and min(way[index] / way[chosen] for way in ways) < LEAST_GAIN_RATIO
    )
    return chosen, tuple(sorted(others))


def _price(answer: CardAnswer, gpu: Gpu, prices: Sequence[Price]) -> CardAnswer:
    named = {find_gpu(each.gpu).name: each.per_hour for each in prices if each.gpu is not None}
    usual = next((each.per_hour for each in prices if each.gpu is None), None)
    price = named.get(gpu.name, usual)
    if price is None or answer.training_s is None:
        return answer
    training_price = answer.training_s.scale(price / _SECONDS_PER_HOUR)
    return replace(answer, price_per_hour=price, training_price=training_price)
