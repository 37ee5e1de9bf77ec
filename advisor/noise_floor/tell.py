"""How far sessions of the same training differ, and what would show."""

from advisor.engine.record import Command, Conclusions
from advisor.noise_floor.plan import NOISE_FLOOR
from advisor.telling import Headline, Row, Told
from advisor.training.data import Variant
from advisor.units import count_of, format_count, format_number


def head_noise_floor(conclusions: Conclusions) -> Headline:
    """Return what the figures are of."""
    incomplete = "" if conclusions.record.complete else " (from an incomplete run)"
    missing = "no session was timed" if conclusions.of(NOISE_FLOOR) is None else None
    return Headline(answer=f"The model against itself{incomplete}", missing=missing)


def tell_noise_floor(conclusions: Conclusions) -> Told:
    """Return the configuration, the spread of the sessions, and the changes that would show."""
    found = conclusions.of(NOISE_FLOOR)
    if found is None:
        return Told()
    sessions, size = count_of(found.sessions, "session"), format_count(found.micro_batch_size)
    rows = [Row("Timed", f"{sessions} at batch {size}, the same training in each")]
    ratio, low, high = found.ratio.point, found.ratio.low, found.ratio.high
    if ratio is not None and low is not None and high is not None:
        text = f"every second session over the others: {ratio:.3f} ({low:.3f} to {high:.3f}, 95 %"
        holds = "holds" if low <= 1.0 <= high else "does not hold"
        rows.append(Row("A over A", f"{text} interval), which {holds} 1, the truth"))
    if found.spread_fraction is not None:
        spread = format_number(100 * found.spread_fraction)
        rows.append(Row("Spread", f"{spread} % between sessions (standard deviation)"))
    effects = ", ".join(
        f"{format_number(100 * effect)} % with {count}"
        for count, effect in sorted(found.smallest_effects.items())
    )
    if effects:
        text = f"the smallest change that a check finds in four of five cases: {effects} sessions"
        rows.append(Row("Would show", text))
    disturbed = (Row("Disturbed", each) for each in found.disturbances)
    return Told(rows=(*list_configuration(conclusions.record.command), *rows, *disturbed))


def list_configuration(command: Command) -> list[Row]:
    """Return a row of what was asked for beside the defaults, none where nothing was."""
    parts = [f"seed {command.seed}"] if command.seed else []
    if command.precision != "fp32" or command.compile:
        parts.insert(0, Variant(precision=command.precision, compile=command.compile).name)
    parts += [f"{name}={value}" for name, value in command.settings.items()]
    return [Row("Configuration", ", ".join(parts))] if parts else []
