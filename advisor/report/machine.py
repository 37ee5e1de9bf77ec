"""The doctor's report: the device, the software, the counters, and why any is missing."""

from rich.console import Console, ConsoleRenderable
from rich.table import Table
from rich.text import Text

from advisor.measurements import Counter, Environment
from advisor.report.encoding import write_encodable
from advisor.report.units import NOT_MEASURED, format_bytes, format_duration, format_number


def write_machine(console: Console, environment: Environment) -> None:
    """Print what the machine can measure."""
    write_encodable(console, render_machine(environment))


def render_machine(environment: Environment) -> ConsoleRenderable:
    """Return the machine as rows of label and figure."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in _rows(environment):
        grid.add_row(Text(label, style="bold"), Text(text))
    return grid


def _rows(environment: Environment) -> list[tuple[str, str]]:
    device = environment.device
    which = f"{device.kind}:{device.index}" if device.kind == "cuda" else device.kind
    memory = (
        f"{format_bytes(device.memory_bytes)}, {format_bytes(device.available_bytes)} available"
    )
    return [
        ("Device", f"{device.name} ({which})"),
        ("Memory", memory),
        ("Processor", f"{environment.cpu}, {environment.cpu_threads} threads"),
        ("Platform", environment.platform),
        ("Python", environment.python),
        ("torch", environment.torch),
        ("CUDA", environment.cuda or "none"),
        ("Driver", environment.driver or "none"),
        ("Timer step", _format_time(environment.timer_resolution_s)),
        ("Worker start", _format_time(environment.worker_start_s)),
        *((counter.name, _format_counter(counter)) for counter in environment.counters),
    ]


def _format_time(seconds: float | None) -> str:
    return NOT_MEASURED if seconds is None else format_duration(seconds)


def _format_counter(counter: Counter) -> str:
    if counter.value is None:
        return f"not available: {counter.missing_because or 'no reason was given'}"
    if counter.unit in {"byte", "bytes", "B"}:
        return format_bytes(counter.value)
    return f"{format_number(counter.value)} {counter.unit or ''}".rstrip()
