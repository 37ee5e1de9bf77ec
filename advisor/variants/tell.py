"""The table 'Side by side': precisions, compiled or not, one column for each."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from advisor.engine.record import Conclusions, Record
from advisor.memory.data import PROBES
from advisor.statistics import Estimate
from advisor.telling import Column, Row, Table, Told
from advisor.units import NOT_MEASURED, count_of, format_count, format_number, format_spread
from advisor.variants.data import VariantConclusion
from advisor.variants.plan import VARIANTS_TOPIC, count_graphs

#: Variants side by side: what 80 columns hold beside the labels.
_ABREAST = 3
#: Columns of a label and of a variant.
_LABEL_WIDTH, _WIDTH = 22, 17
#: Change of the machine's own speed, as a share, from which on a ratio is not the variant's alone.
DRIFT_FRACTION = 0.03


def tell_variants(conclusions: Conclusions) -> Told:
    """Return the variants side by side, and how often the run itself compiled."""
    compilation, found = describe_compilation(conclusions.record), conclusions.of(VARIANTS_TOPIC)
    return Told(
        rows=() if compilation is None else (Row("Compiled", compilation),),
        tables=tabulate_variants(found or ()),
    )


def tabulate_variants(variants: Sequence[VariantConclusion]) -> tuple[Table, ...]:
    """Return the tables; the last has the legend and all that is missing or doubtful."""
    if not variants:
        return ()
    first, *others = variants
    shown = [others[at : at + _ABREAST - 1] for at in range(0, len(others), _ABREAST - 1)]
    *tables, last = [_tabulate((first, *some)) for some in shown or [[]]]
    notes = tuple(note for one in variants for note in _list_notes(one, first))
    parts = [f"the advice is for {first.name}", "± 95 % interval, over sessions for speed"]
    loss = next((one.loss for one in variants if one.loss is not None), None)
    if loss is not None:
        parts.append(
            f"loss after {count_of(loss.steps, 'step')} of batch {format_count(loss.batch_size)} "
            f"from {count_of(loss.seeds, 'seed')}, the differences seed by seed"
        )
    return (*tables, replace(last, legend="; ".join(parts), notes=notes))


def describe_compilation(record: Record) -> str | None:
    """Return how often torch.compile compiled in the timed sessions; None without --compile."""
    probes = [probe for probe in record.all(PROBES) if probe.stage == "throughput"]
    if not record.command.compile or not probes:
        return None
    graphs = count_graphs(probes)
    if not graphs:
        return "torch.compile compiled nothing of the model: the figures are those of eager mode"
    sizes = {probe.micro_batch_size for probe in probes}
    sessions = {probe.session for probe in probes}
    return (
        f"{count_of(graphs, 'graph')} for {count_of(len(sizes), 'batch size')} over "
        f"{count_of(len(sessions), 'session')}, each size for itself and before it was timed"
    )


def _tabulate(shown: Sequence[VariantConclusion]) -> Table:
    first = shown[0]

    def write_largest(one: VariantConclusion) -> str:  # a lower bound where larger ones may fit
        size = one.max_micro_batch_size
        return "≥ " * (size is not None and not one.verified) + _count(size)

    def beside(one: VariantConclusion, ratio: Estimate | None) -> str:
        return "" if one is first else format_spread(ratio)

    def subtract(one: VariantConclusion) -> str:
        difference = None if one.loss is None else one.loss.difference
        is_above = difference is not None and (difference.point or 0.0) > 0.0
        return ("+" if is_above else "") + beside(one, difference)

    over, at = f"  over {first.name}", _count(first.micro_batch_size)
    rows: list[tuple[str, Callable[[VariantConclusion], str]]] = [
        ("largest micro-batch", write_largest),
        ("saturates at batch", lambda one: _count(one.saturation_batch_size)),
        (f"samples/s at {at}", lambda one: _write_speed(one.samples_per_s)),
        (over, lambda one: beside(one, one.speed_ratio)),
        ("fastest batch timed", lambda one: _count(one.best_micro_batch_size)),
        ("  samples/s there", lambda one: _write_speed(one.best_samples_per_s)),
        (over, lambda one: beside(one, one.best_speed_ratio)),
        ("loss at the end", lambda one: format_spread(None if one.loss is None else one.loss.loss)),
        (f"  minus {first.name}", subtract),
    ]
    if first.micro_batch_size is None:
        del rows[2:4]
    columns = [Column("Side by side", "left", folds=True, width=_LABEL_WIDTH)]
    columns += [Column(one.name, folds=True, width=_WIDTH) for one in shown]
    cells = tuple((label, *map(write, shown)) for label, write in rows)
    return Table(columns=tuple(columns), rows=cells)


def _list_notes(variant: VariantConclusion, first: VariantConclusion) -> list[str]:
    name, notes = variant.name, []
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
            f"{first.name}, by a fixed matrix product; the ratio holds both"
        )
    if variant.loss is not None and variant.loss.diverged:
        notes.append(f"{name}: {variant.loss.diverged} of {variant.loss.seeds} seeds diverged")
    return notes


def _write_speed(speed: Estimate | None) -> str:
    """Return `1,270,000 ± 15 %`: the interval as a share, since a column is narrow."""
    if speed is None or speed.point is None or speed.low is None or speed.high is None:
        return format_spread(speed)
    half_width = max(speed.high - speed.point, speed.point - speed.low)
    return f"{format_number(speed.point)} ± {100 * half_width / speed.point:.2g} %"


def _count(size: int | None) -> str:
    return "-" if size is None else format_count(size)
