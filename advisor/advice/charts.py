"""The charts over the batch, with the advised one marked: speed, time to train, losses, memory."""

from collections.abc import Iterator, Sequence

from advisor.advice.batch_table import Row
from advisor.advice.data import Recommendation
from advisor.advice.plan import ADVICE
from advisor.engine.conclusions import Conclusions
from advisor.memory.tell import chart_memory
from advisor.race.charts import chart_losses
from advisor.race.plan import RACE
from advisor.race.tell import MOST_TOLD, name_pair
from advisor.rate.data import TRIALS
from advisor.telling import Chart, Datum, Line, Mark
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.tell import chart_speed


def draw_charts(conclusions: Conclusions, rows: Sequence[Row]) -> Iterator[Chart]:
    """Yield the charts that there is something for; `rows` are those of the table of batches."""
    record, advice = conclusions.record, conclusions.of(ADVICE)
    facts, found, race = record.workload, conclusions.of(THROUGHPUT), conclusions.of(RACE)
    candidates = () if advice is None else advice.candidates
    marks: tuple[Mark, ...] = ()
    if advice is not None and facts is not None:
        marks = (Mark("recommended", advice.micro_batch_size * facts.parts),)
    if found is not None:
        is_apart = facts is not None and facts.script is None
        unit = "sample" if facts is None else facts.sample_unit
        data = (
            Datum(x=each.micro_batch_size, y=each.micro_batch_size / each.step_s)
            for each in candidates
            if each.gradient_accumulation_steps == 1 and each.step_s
        )
        loop = Line("in your loop, with its loader", tuple(data), "predicted")
        yield chart_speed(found, *([loop] if is_apart else ()), x_marks=marks, unit=unit)
    if advice is not None:
        yield _chart_time(advice, rows)
    if advice is not None and race is not None:
        chosen = (advice.global_batch_size, advice.learning_rate.value or 0.0)
        yield from chart_losses(race, record.all(TRIALS), chosen=chosen, ways=candidates)
    yield chart_memory(conclusions, marks)


def _chart_time(advice: Recommendation, rows: Sequence[Row]) -> Chart:
    """Return the time to train by the law, and as trained at the best rate of each batch."""
    predicted = tuple(
        Datum(x=one.global_batch_size, y=one.relative_time)
        for one in advice.candidates
        if one.relative_time is not None
    )
    trained = tuple(
        Datum(
            x=row.candidate.global_batch_size,
            y=ratio.point,
            low=ratio.low,
            high=ratio.high,
            note=name_pair(row.trial.key),
        )
        for row in rows
        if row.trial is not None
        and (ratio := row.trial.time_ratio) is not None
        and ratio.point is not None
        and ratio.point <= MOST_TOLD
    )
    near = advice.interval
    marks = [Mark("recommended", advice.global_batch_size)]
    if near.low is not None and near.high is not None and near.low < near.high:
        marks.append(Mark("within 5 % of it", near.low, near.high))
    return Chart(
        title="Time to train against batch",
        caption="Below 1 is faster than your own pair, in your own loop: by the law of the noise, "
        "and as trained in this run at the best rate of each batch, with its 95 % interval.",
        x_label="global batch, samples",
        y_label="time over your own pair's",
        lines=(Line("predicted", predicted, "predicted"), Line("trained", trained, "points")),
        log_y=True,
        x_marks=tuple(marks),
        y_marks=(Mark("your own pair", 1.0),),
    )
