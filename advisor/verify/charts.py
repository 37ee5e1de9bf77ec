"""The losses of a verification's batches as charts: over samples, and over time."""

from advisor.report.charts import Chart, Datum, Series, render_chart
from advisor.units import format_count
from advisor.verify.data import VerificationConclusion, VerifiedBatch

#: Lines that the page has colours for.
_MOST_LINES = 8


def chart_verification(verification: VerificationConclusion | None) -> tuple[Chart | None, ...]:
    """Return the two charts; None in the place of one without data."""
    if verification is None:
        return ()
    shown = [each for each in verification.batches if each.curve][-_MOST_LINES:]
    recommended = verification.recommended_batch_size
    return tuple(
        render_chart(
            title=title,
            x_label=x_label,
            y_label="mean over seeds, 95 % interval",
            series=tuple(
                Series(label=_label(each, recommended), data=_trace(each, over_time=over_time))
                for each in shown
            ),
            log_x=False,
            log_y=_is_positive(shown),
        )
        for title, x_label, over_time in (
            ("Training loss against samples, by batch", "samples", False),
            ("Training loss against time, by batch", "seconds of training", True),
        )
    )


def _label(each: VerifiedBatch, recommended: int) -> str:
    size = format_count(each.global_batch_size)
    return f"{size}, recommended" if each.global_batch_size == recommended else size


def _trace(each: VerifiedBatch, *, over_time: bool) -> tuple[Datum, ...]:
    points = []
    for point in each.curve:
        x = point.time_s if over_time else float(point.samples)
        if x is not None and point.loss.point is not None:
            loss = point.loss
            points.append(Datum(x=x, y=point.loss.point, low=loss.low, high=loss.high))
    return tuple(points)


def _is_positive(batches: list[VerifiedBatch]) -> bool:
    """Return whether a logarithmic axis can show every loss."""
    losses = [point.loss.point for each in batches for point in each.curve]
    return all(loss is not None and loss > 0.0 for loss in losses)
