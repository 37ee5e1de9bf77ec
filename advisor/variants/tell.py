"""The table 'Side by side': precisions, compiled or not, one column for each."""

from collections.abc import Callable, Sequence

from rich import box
from rich.console import ConsoleRenderable
from rich.table import Table
from rich.text import Text

from advisor.engine.run_record import RunRecord
from advisor.statistics import Estimate
from advisor.training.data import name_variant
from advisor.units import NOT_MEASURED, count_of, format_count, format_number, format_spread
from advisor.variants.data import LossAtEnd, VariantConclusion

#: Variants side by side: what 80 columns hold beside the labels.
_ABREAST = 3
#: Columns of a label and of a variant.
_LABEL_WIDTH, _WIDTH = 22, 17
#: Change of the machine's own speed, as a share, from which on a ratio is not the variant's alone.
DRIFT_FRACTION = 0.03

_Row = tuple[str, Callable[[VariantConclusion], str]]


def render_variants(variants: Sequence[VariantConclusion]) -> list[ConsoleRenderable]:
    """Return the table, its legend, and a line for each thing that is missing or doubtful."""
    if not variants:
        return []
    first, *others = variants
    parts: list[ConsoleRenderable] = []
    for start in range(0, max(1, len(others)), _ABREAST - 1):
        parts += [Text(), _render_table(first, others[start : start + _ABREAST - 1])]
    parts.append(Text(_render_legend(first, variants), style="dim"))
    return parts + [Text(note) for variant in variants for note in _list_notes(variant, first)]


def describe_compilation(record: RunRecord) -> str | None:
    """Return how often torch.compile compiled in the timed sessions; None without --compile."""
    probes = [probe for probe in record.probes if probe.stage == "throughput"]
    if not record.command.compile or not probes:
        return None
    graphs = sum(probe.recompiles or 0 for probe in probes)
    if not graphs:
        return "torch.compile compiled nothing of the model: the figures are those of eager mode"
    sizes = {probe.micro_batch_size for probe in probes}
    sessions = {probe.session for probe in probes}
    return (
        f"{count_of(graphs, 'graph')} for {count_of(len(sizes), 'batch size')} over "
        f"{count_of(len(sessions), 'session')}, each size for itself and before it was timed"
    )


def _render_table(first: VariantConclusion, others: Sequence[VariantConclusion]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Side by side", width=_LABEL_WIDTH, overflow="fold")
    for variant in (first, *others):
        table.add_column(_name(variant), justify="right", width=_WIDTH, overflow="fold")
    for label, write in _list_rows(first):
        table.add_row(label, *(write(variant) for variant in (first, *others)))
    return table


def _list_rows(first: VariantConclusion) -> list[_Row]:
    over = f"  over {_name(first)}"
    rows: list[_Row] = [
        ("largest micro-batch", _write_largest),
        ("saturates at batch", lambda one: _count(one.saturation_batch_size)),
    ]
    if first.micro_batch_size is not None:
        at = format_count(first.micro_batch_size)
        rows += [
            (f"samples/s at {at}", lambda one: _write_speed(one.samples_per_s)),
            (over, lambda one: _ratio(one, first, one.speed_ratio)),
        ]
    rows += [
        ("fastest batch timed", lambda one: _count(one.best_micro_batch_size)),
        ("  samples/s there", lambda one: _write_speed(one.best_samples_per_s)),
        (over, lambda one: _ratio(one, first, one.best_speed_ratio)),
        ("loss at the end", lambda one: _write_loss(one.loss)),
        (f"  minus {_name(first)}", lambda one: _write_difference(one, first)),
    ]
    return rows


def _render_legend(first: VariantConclusion, variants: Sequence[VariantConclusion]) -> str:
    parts = [f"the advice is for {_name(first)}", "± 95 % interval, over sessions for speed"]
    loss = next((one.loss for one in variants if one.loss is not None), None)
    if loss is not None:
        parts.append(
            f"loss after {count_of(loss.steps, 'step')} of batch {format_count(loss.batch_size)} "
            f"from {count_of(loss.seeds, 'seed')}, the differences seed by seed"
        )
    return "; ".join(parts)


def _list_notes(variant: VariantConclusion, first: VariantConclusion) -> list[str]:
    name, notes = _name(variant), []
    if variant.missing_because is not None:
        notes.append(f"{name}: {NOT_MEASURED}: {variant.missing_because}")
    elif variant.loss_missing_because is not None:
        notes.append(f"{name}: no loss: {variant.loss_missing_because}")
    if variant.graphs == 0:
        notes.append(f"{name}: torch.compile compiled nothing of the model")
    drift = variant.machine_speed_ratio
    if drift is not None and abs(drift - 1.0) > DRIFT_FRACTION:
        change = "faster" if drift > 1.0 else "slower"
        notes.append(
            f"{name}: the machine itself was {100 * abs(drift - 1.0):.0f} % {change} than beside "
            f"{_name(first)}, by a fixed matrix product; the ratio holds both"
        )
    if variant.loss is not None and variant.loss.diverged:
        notes.append(f"{name}: {variant.loss.diverged} of {variant.loss.seeds} seeds diverged")
    return notes


def _name(variant: VariantConclusion) -> str:
    return name_variant(variant.precision, compiled=variant.compile)


def _write_largest(variant: VariantConclusion) -> str:
    """Return the largest size that ran, as a lower bound where larger ones may fit."""
    size = variant.max_micro_batch_size
    return _count(size) if size is None or variant.verified else f"≥ {format_count(size)}"


def _write_speed(speed: Estimate | None) -> str:
    """Return `1,270,000 ± 15 %`: the interval as a share, since a column is narrow."""
    if speed is None or speed.point is None or speed.low is None or speed.high is None:
        return format_spread(speed)
    half_width = max(speed.high - speed.point, speed.point - speed.low)
    return f"{format_number(speed.point)} ± {100 * half_width / speed.point:.2g} %"


def _count(size: int | None) -> str:
    return "-" if size is None else format_count(size)


def _ratio(one: VariantConclusion, first: VariantConclusion, ratio: Estimate | None) -> str:
    return "" if one is first else format_spread(ratio)


def _write_loss(loss: LossAtEnd | None) -> str:
    return NOT_MEASURED if loss is None else format_spread(loss.loss)


def _write_difference(one: VariantConclusion, first: VariantConclusion) -> str:
    if one is first:
        return ""
    difference = None if one.loss is None else one.loss.difference
    text = format_spread(difference)
    is_above = difference is not None and (difference.point or 0.0) > 0.0
    return f"+{text}" if is_above else text
