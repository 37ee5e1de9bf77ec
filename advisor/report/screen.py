"""The first screen: what decides, in at most 24 lines of 80 columns."""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console, ConsoleRenderable, Group
from rich.text import Text

from advisor.engine.question import Kind
from advisor.engine.record import Conclusions
from advisor.report.encoding import write_encodable
from advisor.report.tables import draw_item, draw_table
from advisor.telling import Screen, State, Status, Table

#: Lines of a usual terminal; one of them is the prompt's.
MOST_LINES = 23
#: Fewer rows than this say nothing around the answer.
_LEAST_ROWS = 3
_MARKS: dict[State, str] = {"measured": "✓", "predicted": "~", "inconclusive": "?", "skipped": "-"}
_LABEL_WIDTH = 10
#: Of a warning, where the screen would else be too long.
_CAUTION_LINES = 2
FULL = "bsadvisor report --full"


def write_screen(console: Console, kind: Kind, conclusions: Conclusions) -> None:
    """Print the first screen in characters that the console can show."""
    assert kind.screen is not None
    screen = kind.screen(conclusions)
    statuses = list_statuses(kind, conclusions)
    while len(console.render_lines(_draw_screen(screen, statuses), pad=False)) > MOST_LINES:
        shorter = _drop_row(screen.table)
        if shorter is None:
            most = _CAUTION_LINES * (console.width - 2) - 1
            cut = (each if len(each) <= most else f"{each[:most]}…" for each in screen.cautions)
            screen = replace(screen, cautions=tuple(cut))
            break
        screen = replace(screen, table=shorter)
    write_encodable(console, _draw_screen(screen, statuses))


def list_statuses(kind: Kind, conclusions: Conclusions) -> tuple[Status, ...]:
    """Return a line for each stage; one that failed says so in place of what it would have told."""
    failed = {failure.stage: failure.message for failure in conclusions.record.failures}
    found = []
    for question in kind.told or kind.questions:
        status = None if question.brief is None else question.brief(conclusions)
        if question.name in failed:
            label = question.name.capitalize() if status is None else status.label
            status = Status(label, f"cut short: {failed[question.name]}", "inconclusive")
        found += [] if status is None else [status]
    return tuple(found)


def _draw_screen(screen: Screen, statuses: Sequence[Status]) -> Group:
    """Return the whole screen; last where the rest is, and what marks of what is amiss mean."""
    parts: list[ConsoleRenderable] = [Text(screen.answer, style="bold")]
    parts += (Text(f"  {line}", style="green", no_wrap=True) for line in screen.settings)
    parts += map(Text, screen.lines)
    parts += (draw_item(each, "!", "yellow") for each in screen.cautions)
    parts += [Text(), *draw_table(screen.table)] if screen.table is not None else []
    parts += [Text(), *map(draw_status, statuses)] if statuses else []
    parts += [draw_item(screen.next_step, "→")] if screen.next_step else []
    states = {status.state for status in statuses}
    marks = ", ".join(f"{mark} {state}" for state, mark in _MARKS.items() if state in states)
    is_amiss = bool(states & {"inconclusive", "skipped"})
    return Group(*parts, Text(f"Everything else: {FULL}" + f"   {marks}" * is_amiss, style="dim"))


def draw_status(status: Status) -> Text:
    """Return a stage's line, cut where the console ends."""
    text = f"{_MARKS[status.state]} {status.label:<{_LABEL_WIDTH}} {status.text}"
    style = "" if status.state in {"measured", "predicted"} else "dim"
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _drop_row(table: Table | None) -> Table | None:
    """Return the table without its last row that is not marked; None where it is short enough."""
    unmarked = [n for n, row in enumerate(table.rows) if not row[0]] if table else []
    if table is None or not unmarked or len(table.rows) <= _LEAST_ROWS:
        return None
    at = unmarked[-1] if len(unmarked) % 2 else unmarked[0]  # from both ends in turn
    return replace(
        table,
        rows=(*table.rows[:at], *table.rows[at + 1 :]),
        bold_rows=frozenset(n - (n > at) for n in table.bold_rows),
    )
