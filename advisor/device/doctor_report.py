"""The doctor's report: the device, the software, the counters, and why any is missing."""

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleRenderable
from rich.table import Table
from rich.text import Text

from advisor.device.data import Counter, Environment
from advisor.device.power_cap import find_power_cap
from advisor.report.encoding import write_encodable
from advisor.units import NOT_MEASURED, format_bytes, format_duration, format_number

#: What the reasons of missing counters mean.
_REASONS = {
    "not_supported": "the machine or its driver has no such counter",
    "no_permission": "this user may not read it",
    "no_driver": "NVIDIA's driver library cannot be used here",
    "no_device": "there is no NVIDIA GPU in use",
    "not_nvidia": "the GPU is not NVIDIA's, whose counters alone are read",
    "mig": "it belongs to the whole card, of which this is a MIG instance",
    "ambiguous_order": "cards of several kinds stand in an order that CUDA does not tell",
}


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
        *_counter_rows(environment.counters),
    ]


def _counter_rows(counters: Sequence[Counter]) -> Iterator[tuple[str, str]]:
    """Yield the counters that have a value, then the missing ones by reason."""
    cap = find_power_cap(counters)
    missing: dict[str, list[str]] = {}
    for counter in counters:
        if counter.value is None:
            reason = counter.missing_because or "no reason was given"
            missing.setdefault(reason, []).append(_label(counter))
        elif counter.name == "power_limit" and cap is not None:
            note = f", a power cap: the default is {format_number(cap.default_w)} W"
            yield _label(counter), _format_value(counter) + note
        else:
            yield _label(counter), _format_value(counter)
    for reason, labels in missing.items():
        yield "not available", f"{', '.join(labels)}: {_REASONS.get(reason, reason)}"


def _label(counter: Counter) -> str:
    return counter.name.replace("_", " ")


def _format_time(seconds: float | None) -> str:
    return NOT_MEASURED if seconds is None else format_duration(seconds)


def _format_value(counter: Counter) -> str:
    value = counter.value or 0.0
    match counter.unit:
        case "byte" | "bytes" | "B":
            return format_bytes(value)
        case "fraction":
            return f"{value:.0%}"
        case "s":
            return format_duration(value) if value else "0 s"
        case unit:
            return f"{format_number(value)} {unit or ''}".rstrip()
