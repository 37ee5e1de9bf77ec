"""What `bsadvisor doctor --aa` prints."""

from rich.console import Console, Group
from rich.text import Text

from advisor.noise_floor.data import SelfComparison
from advisor.noise_floor.record import SelfComparisonCommand, SelfComparisonRecord
from advisor.report.encoding import write_encodable
from advisor.report.terminal import render_rows
from advisor.training.data import name_variant
from advisor.units import count_of, format_count, format_number


def write_self_comparison(
    console: Console, record: SelfComparisonRecord, comparison: SelfComparison
) -> None:
    """Print how far sessions of the same training differ, and what would show."""
    incomplete = "" if record.complete else " (from an incomplete run)"
    title = Text(f"The model against itself{incomplete}", style="bold")
    rows = [*list_configuration(record.command), *list_self_comparison(comparison)]
    write_encodable(console, Group(title, render_rows(rows)))


def list_configuration(command: SelfComparisonCommand) -> list[tuple[str, str]]:
    """Return a row of what was asked for beside the defaults, none where nothing was."""
    parts = []
    if command.precision != "fp32" or command.compile:
        parts.append(name_variant(command.precision, compiled=command.compile))
    if command.seed:
        parts.append(f"seed {command.seed}")
    parts += [f"{name}={value}" for name, value in command.settings.items()]
    return [("Configuration", ", ".join(parts))] if parts else []


def list_self_comparison(comparison: SelfComparison) -> list[tuple[str, str]]:
    """Return rows of label and text."""
    sessions = count_of(comparison.sessions, "session")
    size = format_count(comparison.micro_batch_size)
    rows = [("Timed", f"{sessions} at batch {size}, the same training in each")]
    ratio = comparison.ratio
    if ratio.point is not None and ratio.low is not None and ratio.high is not None:
        holds = "holds" if ratio.low <= 1.0 <= ratio.high else "does not hold"
        text = (
            f"every second session over the others: {ratio.point:.3f} ({ratio.low:.3f} to "
            f"{ratio.high:.3f}, 95 % interval), which {holds} 1, the truth"
        )
        rows.append(("A over A", text))
    if comparison.spread_fraction is not None:
        spread = format_number(100 * comparison.spread_fraction)
        rows.append(("Spread", f"{spread} % between sessions (standard deviation)"))
    if comparison.smallest_effects:
        effects = ", ".join(
            f"{format_number(100 * effect)} % with {count}"
            for count, effect in sorted(comparison.smallest_effects.items())
        )
        text = f"the smallest change found in four of five cases, by sessions a side: {effects}"
        rows.append(("Would show", text))
    rows += [("Disturbed", each) for each in comparison.disturbances]
    return rows
