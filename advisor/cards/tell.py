"""What is told of training on cards that are not here: measured, predicted, bounded."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from advisor.advice.data import Bounds
from advisor.advice.frontier_tell import format_bounds
from advisor.cards.data import TRAINING, Basis, CardAnswer, Training
from advisor.cards.plan import ANSWERS
from advisor.engine.record import Conclusions
from advisor.predict.data import Prediction
from advisor.predict.prediction import PREDICTIONS
from advisor.predict.tell import draw_up_screen as draw_up_memory
from advisor.predict.tell import tell_headline as head_memory
from advisor.telling import Chart, Column, Datum, Headline, Line, Passage, Row, Screen, Table, Told
from advisor.units import (
    NOT_MEASURED,
    count_of,
    format_count,
    format_duration,
    format_figure,
    format_number,
)

#: Cards on the screen; the full report has all.
_MOST_CARDS = 10
#: Of a card; what is longer goes on in the next line.
_NAME_WIDTH = 16
_UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
_UNKNOWN = "-"
_BASES: dict[Basis, str] = {
    "measured": "measured on the run's own card",
    "predicted": "~ scaled from the run's card by peaks and bandwidths",
    "bounded": "≥ bounded by FLOPs and bytes, which no training reaches",
}


def tell_headline(conclusions: Conclusions) -> Headline:
    """Return how to train on the first card, or without a run what fits."""
    memory, training = head_memory(conclusions), conclusions.record.get(TRAINING)
    answers = conclusions.of(ANSWERS)
    if training is None or not answers:
        return memory
    return Headline(
        answer=_write_answer(answers),
        remarks=(*_list_lines(training, answers), *memory.remarks),
        missing=memory.missing or ("" if answers[0].global_batch_size is None else None),
    )


def _write_answer(answers: Sequence[CardAnswer]) -> str:
    first = answers[0]
    if first.global_batch_size is None:
        return f"Nothing that was trained fits on {first.gpu}: {first.reason}"
    rate = _write_rate(first)
    how = f"batch {_write_split(first)}{rate and f', rate {rate}'}"
    if len(answers) == 1 or first.rank is None:
        return f"On {first.gpu} train with {how}"
    ranked = [each for each in answers if each.rank is not None]
    is_by_price = all(each.training_price is not None for each in ranked)
    what, count = "the cheapest" if is_by_price else "the fastest", len(ranked)
    by = ", by bounds alone" * (first.basis == "bounded")
    return f"{first.gpu} is {what} of {count_of(count, 'card')}{by}: train with {how}"


def _list_lines(training: Training, answers: Sequence[CardAnswer]) -> Iterator[str]:
    yield f"Batch and rate were trained on {training.device}; nothing was run on these cards."
    for one, other in pairwise(each for each in answers if each.training_s is not None):
        first, second = one.training_price, other.training_price
        if first is None or second is None:
            first, second = one.training_s, other.training_s
        if first and second and (first.high is None or first.high > second.low):
            yield "Where times overlap the order of two cards is open."
            return


def draw_up_screen(conclusions: Conclusions) -> Screen:
    """Return the first screen: a row a card, the best first."""
    answers = conclusions.of(ANSWERS)
    if not answers:
        return draw_up_memory(conclusions)
    headline = tell_headline(conclusions)
    open_ones = sorted({size for each in answers for size in each.may_be_faster})
    sizes = ", ".join(map(format_count, open_ones))
    return Screen(
        answer=headline.answer,
        lines=headline.remarks,
        table=_draw_up(answers[:_MOST_CARDS], conclusions),
        next_step=f"Batch {sizes} may be faster there: probe on the card itself." if sizes else "",
    )


def _draw_up(answers: Sequence[CardAnswer], conclusions: Conclusions) -> Table:
    """Return the cards with batch, rate, time and price."""
    training = conclusions.record.get(TRAINING)
    by_gpu = {one.gpu: one for one in conclusions.of(PREDICTIONS) or ()}
    times = [each.training_s for each in answers if each.training_s is not None]
    unit, unit_s = _choose_unit(times)
    samples = next((each.training_samples for each in answers if each.training_samples), None)
    width = min(_NAME_WIDTH, max(len(each.gpu) for each in answers))
    legend = "batch and rate as trained in the run; what fits ~ predicted"
    if samples is not None:
        legend += f"; time for {format_count(round(samples))} samples at the base batch"
    bases = {each.basis for each in answers}
    legend += "".join(f"; {text}" for basis, text in _BASES.items() if basis in bases)
    columns = [
        (Column(), [str(each.rank or "") for each in answers]),
        (Column("GPU", "left", folds=True, width=width), [each.gpu for each in answers]),
        (Column("fits"), [_write_largest(each, by_gpu[each.gpu], training) for each in answers]),
        (Column("batch"), [*map(_write_split, answers)]),
        (Column("rate"), [_write_rate(each) or _UNKNOWN for each in answers]),
    ]
    if samples is not None:
        spent = [_write(each, each.training_s, 1.0 / unit_s) for each in answers]
        columns.append((Column(unit), spent))
    if any(each.training_price is not None for each in answers):
        columns.append((Column("price"), [_write(each, each.training_price) for each in answers]))
    return Table(
        columns=tuple(column for column, _ in columns),
        rows=tuple(zip(*(cells for _, cells in columns), strict=True)),
        legend=legend,
        is_narrow=True,
    )


def _write_largest(answer: CardAnswer, prediction: Prediction, training: Training | None) -> str:
    """Return the largest micro-batch: as the run saw it on its own card, else `~` as predicted."""
    if answer.basis == "measured" and training is not None:
        return format_count(training.largest_micro_batch_size)
    return f"~ {format_count(int(prediction.max_micro_batch_size.point or 0))}"


def _choose_unit(times: Sequence[Bounds]) -> tuple[str, float]:
    longest = max((each.ranked for each in times), default=0.0)
    return next((one for one in _UNITS if longest >= one[1]), _UNITS[-1])


def _write(answer: CardAnswer, bounds: Bounds | None, factor: float = 1.0) -> str:
    """Return `3.1`, `~ 2.1 to 4.6` where predicted, `≥ 1.2` where bounded."""
    if bounds is None:
        return _UNKNOWN
    low, high = bounds.low * factor, bounds.ranked * factor
    if answer.basis == "predicted":
        return f"~ {format_figure(low, 2)} to {format_figure(high, 2)}"
    return format_bounds(bounds.scale(factor))


def _write_rate(answer: CardAnswer) -> str:
    return "" if answer.learning_rate is None else format_figure(answer.learning_rate)


def _write_split(answer: CardAnswer) -> str:
    if answer.global_batch_size is None:
        return _UNKNOWN
    count = answer.gradient_accumulation_steps or 1
    size = format_count(answer.global_batch_size)
    if count == 1:
        return size
    return f"{size} = {format_count(answer.micro_batch_size or 0)} × {format_count(count)}"


def tell_answers(conclusions: Conclusions) -> Told:
    """Return the table with how each card's figures came about."""
    training, answers = conclusions.record.get(TRAINING), conclusions.of(ANSWERS)
    if training is None or not answers:
        return Told()
    return Told(
        tables=(_draw_up(answers, conclusions),),
        rows=tuple(Row("Card", _describe(each, training)) for each in answers),
        passages=(Passage(title="What the times assume", items=tuple(_list_notes(training))),),
        charts=(_chart_times(answers),),
    )


def _chart_times(answers: Sequence[CardAnswer]) -> Chart:
    times = {each.gpu: each.training_s for each in answers if each.training_s is not None}
    unit, unit_s = _choose_unit([*times.values()])
    scaled = {gpu: training_s.scale(1.0 / unit_s) for gpu, training_s in times.items()}
    data = tuple(
        Datum(x=gpu, y=each.ranked, low=each.low, high=each.high) for gpu, each in scaled.items()
    )
    return Chart(
        title="Time to train by card",
        caption="Each point is the most that a card takes, its bar goes down to the least; without "
        "a bar it is the least alone, or was measured.",
        x_label="",
        y_label=unit,
        lines=(Line("by card", data, "points"),),
    )


def _describe(answer: CardAnswer, training: Training) -> str:
    """Return how one card's step was had, and what is open."""
    parts = []
    if answer.step_s is not None:
        least, most = format_duration(answer.step_s.low), format_duration(answer.step_s.ranked)
        parts.append(
            {
                "measured": f"a step takes {most}, measured in {training.run}",
                "predicted": f"a step takes {least} to {most}, scaled from {training.device}",
            }.get(
                answer.basis or "",
                f"a step takes at least {least}, by its peak arithmetic and its bandwidth",
            )
        )
    if answer.reason:
        parts.append(answer.reason)
    if answer.may_be_faster:
        sizes = ", ".join(map(format_count, answer.may_be_faster))
        parts.append(f"batch {sizes} was trained as well and may be faster there")
    if answer.price_per_hour is not None:
        parts.append(f"{format_figure(answer.price_per_hour)} an hour, as you said")
    return f"{answer.gpu}: {'; '.join(parts) or NOT_MEASURED}"


def _list_notes(training: Training) -> Iterator[str]:
    yield (
        f"Batch, rate and samples are those of {training.run}: they belong to model and data, in "
        "the window that it trained."
    )
    yield (
        "Scaled: each part of a step comes as near to its limit (arithmetic, memory, or what "
        "launches it) as on the card where it was timed; the ends are those of all ways to share "
        "the step among them. Host and loader are taken to be as fast."
    )
    yield (
        "Another batch takes the advised one's place only where it is faster by 5 % or more in "
        "every such way."
    )
    if training.samples is None:
        yield "Give --samples or --epochs for the whole training in place of a million samples."
    else:
        yield f"The training takes {format_number(training.samples)} samples at the base batch."
