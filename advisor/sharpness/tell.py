"""The sharpness along training, in words."""

from advisor.engine.record import Conclusions
from advisor.sharpness.data import SharpnessConclusion, SharpnessPoint
from advisor.sharpness.plan import SHARPNESS_TOPIC
from advisor.telling import Chart, Datum, Line, Row, Told
from advisor.units import NOT_MEASURED, count_of, format_count, format_figure, format_number

#: The largest eigenvalue is convex in the matrix, so over few samples it is on average above that
#: of the whole data (`benchmarks/sharpness.py` shows by how much on digits).
_FEW_SAMPLES = 512


def tell_sharpness(conclusions: Conclusions) -> Told:
    """Return the sharpness along training, where it was asked for."""
    found = conclusions.of(SHARPNESS_TOPIC)
    if found is None:
        return Told()
    data = [
        Datum(x=point.at_step, y=point.sharpness)
        for point in found.points
        if point.sharpness is not None and point.sharpness > 0.0
    ]
    chart = Chart(
        title="Sharpness along training",
        caption="How sharply the loss curves upwards where training has come to: the sharper, the "
        "lower the rates at which it is stable.",
        x_label="optimizer step",
        y_label="λ of the loss",
        lines=(Line("largest eigenvalue of the Hessian", tuple(data)),),
        log_x=False,
    )
    return Told(rows=(Row("Sharpness", describe_sharpness(found)),), charts=(chart,))


def describe_sharpness(sharpness: SharpnessConclusion) -> str:
    """Return the largest eigenvalue along training, the rate that it limits, and the hint."""
    known = [point for point in sharpness.points if point.sharpness is not None]
    if sharpness.status == "not_measured" or not known:
        return f"{NOT_MEASURED}: {sharpness.reason or 'no reason was recorded'}"
    ends, highest = (known[0], known[-1]), max(known, key=lambda each: each.sharpness or 0.0)
    path = " to ".join(dict.fromkeys(map(_describe_point, ends)))
    parts = [f"largest eigenvalue of the Hessian {path}"]
    if highest not in ends:
        parts[0] += f", at most {_describe_point(highest)}"
    if sharpness.samples is not None:
        parts[0] += f", over {count_of(sharpness.samples, 'sample')}"
        few = ", which are few and exaggerate it"
        parts[0] += few if sharpness.samples < _FEW_SAMPLES else ""
    own = [value for each in known if (value := each.preconditioned_sharpness) is not None]
    if own:
        path = " to ".join(dict.fromkeys(map(format_number, (own[0], own[-1]))))
        parts.append(f"in the optimizer's own metric {path}")
    rates = [p.largest_stable_rate for p in sharpness.points if p.largest_stable_rate is not None]
    if rates:
        path = " to ".join(dict.fromkeys(map(format_figure, (min(rates), max(rates)))))
        limit = f"full-batch training is stable below a rate of {path} ({sharpness.formula})"
        parts.append(limit)
    if any(point.is_lower_bound for point in sharpness.points):
        parts.append("not all eigenvalues settled: those are at least so large")
    parts += [sharpness.hint] if sharpness.hint is not None else []
    if sharpness.reason:
        parts.append(f"points without it: {sharpness.reason}")
    return "; ".join(parts)


def _describe_point(point: SharpnessPoint) -> str:
    return f"{format_number(point.sharpness or 0.0)} at step {format_count(point.at_step)}"
