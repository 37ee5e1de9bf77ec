"""The first screen of a prediction: a row a card, what holds its memory, what would help."""

from advisor.engine.conclusions import Conclusions
from advisor.predict.data import CARDS, Prediction
from advisor.predict.prediction import PREDICTIONS
from advisor.predict.tell import FITS, format_sizes, tell_headline
from advisor.telling import Column, Screen, Table
from advisor.units import format_count, format_percent

#: Cards on the screen; the full report has all.
_MOST_CARDS = 12


def draw_up_screen(conclusions: Conclusions) -> Screen:
    """Return the first screen of a prediction."""
    headline, predictions = tell_headline(conclusions), conclusions.of(PREDICTIONS) or ()
    answer, asked = headline.answer, conclusions.record.get(CARDS)
    size = None if asked is None else asked.micro_batch_size
    if len(predictions) > 1:
        answer = f"Predicted for {len(predictions)} cards by a trace; nothing was run on them"
    return Screen(
        answer=answer,
        lines=headline.remarks,
        table=_draw_up(predictions[:_MOST_CARDS], size) if predictions else None,
    )


def _draw_up(predictions: tuple[Prediction, ...], size: int | None) -> Table:
    rows = [
        (
            one.gpu,
            format_sizes(one.max_micro_batch_size),
            *(() if size is None else (FITS[one.fits],)),
            _name_largest_part(one),
            _name_best_change(one),
        )
        for one in predictions
    ]
    return Table(
        columns=(
            Column("GPU", "left"),
            Column("largest micro-batch"),
            *(() if size is None else (Column(f"batch {format_count(size)} fits"),)),
            Column("mostly", "left"),
            Column("would help", "left", folds=True),
        ),
        rows=tuple(rows),
        legend="all predicted; in brackets the interval of such predictions on real GPUs",
        is_narrow=True,
    )


def _name_largest_part(one: Prediction) -> str:
    """Return what takes most of the memory; empty where it is not known."""
    total = sum(share.size_bytes for share in one.breakdown)
    if not total:
        return ""
    largest = max(one.breakdown, key=lambda share: share.size_bytes)
    return f"{largest.part}, {format_percent(largest.size_bytes / total, decimals=0)}"


def _name_best_change(one: Prediction) -> str:
    """Return the change that allows the largest batch; empty where none allows a larger one."""
    changes = one.what_would_change
    if changes is None or not changes.savings:
        return ""
    best = max(changes.savings, key=lambda saving: saving.max_micro_batch_size)
    if best.max_micro_batch_size <= changes.max_micro_batch_size:
        return ""
    return f"{best.name}: {format_count(best.max_micro_batch_size)}"
