"""The live advice in words."""

from advisor.in_loop.data import SOURCES
from advisor.in_loop.live import LiveAdvice
from advisor.noise.data import format_noise_scale
from advisor.noise.point import LEAST_STEPS
from advisor.telling import Column, Headline, Row, Table, Told
from advisor.units import count_of, format_count, format_figure, format_number

#: Of the longest bar of the table.
_BAR_WIDTH = 20
_NOISE_ALONE = (
    "the noise scale alone: at its batch steps and samples are both twice the least; --run adds "
    "the time of a step"
)


def tell_headline(advice: LiveAdvice) -> Headline:
    """Return the batch and rate that would be best now, or why none can be named."""
    best, left, noise = advice.best_batch_size, LEAST_STEPS - advice.steps, advice.noise
    if best is None:
        reason = "the samples are too few"
        if left > 0:
            reason = f"{count_of(left, 'more measured step')} to take"
        elif noise is not None and noise.high is not None:
            reason = f"it is {format_number(noise.high)} at most, and the samples tell no more"
        return Headline(answer=f"No noise scale yet at step {advice.at_step:,}: {reason}")
    verb = "Stay at" if best == advice.now.batch_size else "Now best:"
    rate = "" if advice.best_rate is None else f", learning rate {format_figure(advice.best_rate)}"
    return Headline(answer=f"{verb} batch {format_count(best)}{rate}")


def tell_live(advice: LiveAdvice) -> Told:
    """Return the rows, and the noise scale along training as a table."""
    now = advice.now
    rate = "" if now.learning_rate is None else f" at {format_figure(now.learning_rate)}"
    name = "" if now.optimizer is None else f", {now.optimizer}"
    rows = [Row("Now", f"step {advice.at_step:,}, batch {now.batch_size or 0:,}{rate}{name}")]
    noise = advice.noise
    if noise is not None:
        source = SOURCES[noise.estimator]
        rows.append(Row("Noise scale", f"{noise}, from {source} of {noise.steps} steps"))
        rows.append(Row("Batch", tell_change(advice)))
        basis = "the noise scale and the steps that the run timed"
        rows.append(Row("By", basis if advice.is_by_time else _NOISE_ALONE))
    return Told(rows=tuple(rows), tables=(_draw_course(advice),) if advice.points else ())


def tell_line(advice: LiveAdvice) -> str:
    """Return all of it in one line, for what is no terminal."""
    parts = [f"step {advice.at_step:,}", tell_headline(advice).answer]
    noise = advice.noise
    if noise is not None:
        parts += [f"noise scale {noise}", tell_change(advice)]
    return "; ".join(parts)


def tell_change(advice: LiveAdvice) -> str:
    """Return when to double."""
    size = advice.now.batch_size or 0
    if not advice.does_change_pay:
        what = "halving" if advice.change == "halve" else "doubling"
        return f"no {what}: by the steps that the run timed it would train no faster"
    match advice.change:
        case "double":
            return f"double it to {2 * size:,}: the noise scale's lower end is above that"
        case "halve":
            return f"halve it to {size // 2:,}: the noise scale's upper end is below half of it"
        case "later":
            return (
                f"double it to {2 * size:,} at about step {advice.change_at_step or 0:,}, if the "
                "noise scale goes on as it has"
            )
        case "stay":
            return "no doubling in sight: the lower end is not above twice the batch"
        case "unknown":
            return "not known yet"


def _draw_course(advice: LiveAdvice) -> Table:
    known = [point.noise_scale.point or 0.0 for point in advice.points]
    most = max([*known, 1e-9])
    rows = tuple(
        (
            f"{point.at_step:,}",
            format_noise_scale(point.noise_scale),
            "█" * round(_BAR_WIDTH * max(0.0, scale) / most),
        )
        for point, scale in zip(advice.points, known, strict=True)
    )
    return Table(
        columns=(Column("step"), Column("noise scale"), Column("", "left")),
        rows=rows,
        is_narrow=True,
    )
