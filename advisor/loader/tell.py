"""What the loader was seen to do, in one paragraph."""

from collections.abc import Mapping

from advisor.engine.record import Conclusions
from advisor.loader.data import LoaderConclusion, LoaderPoint, LoaderStatus
from advisor.loader.plan import LOADER
from advisor.memory.data import PROBES
from advisor.statistics import median
from advisor.telling import Chart, Line, Mark, Row, Status, Told, place_estimates
from advisor.units import count_of, format_count, format_number, format_percent, format_spread

_STATUS: dict[LoaderStatus, str] = {
    "keeps_up": "keeps up with training",
    "limits": "is the limit: training waits for its data",
    "inconclusive": "inconclusive",
}


def tell_loader(conclusions: Conclusions) -> Told:
    """Return what the loader was seen to do."""
    if conclusions.record.command.limits.no_loader:
        return Told(rows=(Row("Loader", "none: batches are in memory (--no-loader)"),))
    waiting = _find_waiting(conclusions)
    if waiting:
        ends = sorted({min(waiting), max(waiting)})
        told = ", ".join(_describe_waiting(waiting, size) for size in ends)
        return Told(rows=(Row("Loader", f"your loop waits for data {told}"),))
    found = conclusions.of(LOADER)
    if found is None:
        return Told()
    return Told(
        rows=(Row("Loader", describe_loader(found)),),
        charts=(chart_loader(found),) if len(found.points) > 1 else (),
    )


def brief_loader(conclusions: Conclusions) -> Status | None:
    """Return whether loading keeps up, in a few words."""
    waiting, facts = _find_waiting(conclusions), conclusions.record.workload
    if waiting:
        base = None if facts is None else facts.base_batch_size
        size = base if base in waiting else min(waiting)
        return Status("Loader", f"waits for data {_describe_waiting(waiting, size)}")
    found = conclusions.of(LOADER)
    if found is None:
        return None
    text = _STATUS[found.status]
    own = found.points[0] if found.points else None
    if found.status == "limits" and own is not None:
        speed = own.together_samples_per_s.point
        alone = found.training_samples_per_s.point
        text = "is the limit"
        if speed is not None and alone is not None:
            text += f" at batch {format_count(found.micro_batch_size)}: {format_number(speed)} "
            text += f"samples/s, {format_number(alone)} without waiting"
    is_open = found.status == "inconclusive"
    return Status("Loader", text, "inconclusive" if is_open else "measured")


def _find_waiting(conclusions: Conclusions) -> dict[int, float]:
    """Return the share of a script's time that goes into its data, by micro-batch."""
    timed: dict[int, list[float]] = {}
    for probe in conclusions.record.all(PROBES):
        if probe.waiting_fraction is not None:
            timed.setdefault(probe.micro_batch_size, []).append(probe.waiting_fraction)
    return {size: median(shares) for size, shares in sorted(timed.items())}


def _describe_waiting(waiting: Mapping[int, float], size: int) -> str:
    return f"{format_percent(waiting[size])} of the time at batch {format_count(size)}"


def chart_loader(loader: LoaderConclusion) -> Chart:
    """Return the speed of the loader alone and with training, over its processes."""
    size, alone = format_count(loader.micro_batch_size), loader.training_samples_per_s.point
    points, status = sorted(loader.points, key=lambda p: p.workers), _STATUS[loader.status]
    return Chart(
        title="Speed against loading processes",
        caption=f"Loader at micro-batch {size}: {status}; bars are intervals over "
        "windows of one process.",
        x_label="workers",
        y_label="samples/s",
        lines=(
            Line("the loader alone", place_estimates((p.workers, p.samples_per_s) for p in points)),
            Line(
                "training with it",
                place_estimates((p.workers, p.together_samples_per_s) for p in points),
            ),
        ),
        log_x=False,
        y_marks=() if alone is None else (Mark("training without it", alone),),
    )


def describe_loader(loader: LoaderConclusion) -> str:
    """Return whether the loader keeps up, its figures, and how many workers suffice."""
    parts = [_STATUS[loader.status]]
    if loader.training_samples_per_s.point is not None:
        size = format_count(loader.micro_batch_size)
        speed = format_spread(loader.training_samples_per_s)
        parts.append(f"training without it {speed} samples/s at micro-batch {size}")
    parts += map(_describe_point, loader.points)
    parts += (_describe_need(loader), loader.message or "")
    return "; ".join(filter(None, parts))


def _describe_point(point: LoaderPoint) -> str:
    alone = format_spread(point.samples_per_s)
    together = format_spread(point.together_samples_per_s)
    text = f"with {count_of(point.workers, 'worker')} the loader alone {alone}, training {together}"
    if point.waiting_fraction is not None:
        text += f", waiting {format_number(100 * point.waiting_fraction)} % of the time"
    return text


def _describe_need(loader: LoaderConclusion) -> str:
    needed = loader.workers_needed
    if loader.status != "limits" or needed is None:
        is_vain = loader.status == "limits" and loader.does_scale is False
        return "more workers load no faster here" if is_vain else ""
    suffice = f"{count_of(needed, 'worker')} would suffice"
    if loader.is_verified:
        return f"{suffice}, as measured"
    rate, doubt = format_number(loader.samples_per_s_per_worker or 0.0), ""
    if loader.find_point(needed) is None:
        doubt = ", not measured"
        if loader.cores is not None and loader.cores < needed:
            doubt += f" on {count_of(loader.cores, 'processor')}"
    elif loader.is_verified is False:
        doubt = ", but training still waited"
    return f"{suffice} by the rate of one, {rate} samples/s{doubt}"
