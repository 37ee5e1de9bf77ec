"""Where a report comes from: how the model file was understood, on what machine, and the run."""

from advisor.engine.question import Kind
from advisor.engine.record import Record, Series
from advisor.telling import Row
from advisor.training.data import WorkloadFacts
from advisor.units import count_of, format_bytes, format_duration, format_figure

#: Files that are named, of those that a script wrote.
_MOST_FILES = 5


def list_sources(kind: Kind, record: Record) -> list[Row]:
    """Return the rows at the end of a report."""
    rows = [] if record.workload is None else _list_workload(record.workload)
    if record.environment is not None:
        device = record.environment.device
        software = f"torch {record.environment.torch}"
        if record.workload is None or record.workload.script is None:
            software += f", {record.command.precision}" + ", compiled" * record.command.compile
        machine = f"{device.name}, {format_bytes(device.memory_bytes)}; {software}"
        rows.append(Row("Software", software) if kind.traces_only else Row("Machine", machine))
    if record.written_files:
        names = record.written_files
        more = len(names) - _MOST_FILES
        rest = f" and {count_of(more, 'more file')}" if more > 0 else ""
        told = f"your script wrote {', '.join(names[:_MOST_FILES])}{rest} while it was measured"
        rows.append(Row("Files", told))
    series = (key for question in kind.questions for key in question.keys)
    counted = next((key for key in series if isinstance(key, Series) and key.noun), None)
    run = "" if counted is None else count_of(len(record.all(counted)), counted.noun)
    if record.elapsed_s is not None:
        run = f"{run} in {format_duration(record.elapsed_s)}".removeprefix(" in ")
    told = f"{run}; {record.created_at}; bsadvisor {record.tool_version}".lstrip("; ")
    return [*rows, Row("Run", told)]


def _list_workload(workload: WorkloadFacts) -> list[Row]:
    count = workload.parameter_count
    size = "" if count is None else f", {count:,} parameters"
    groups = () if workload.optimizer is None else workload.optimizer.groups
    rates = [group.learning_rate for group in groups]
    optimizer = workload.how_optimizer
    if len({*rates}) > 1:
        told = ", ".join("none" if rate is None else format_figure(rate) for rate in rates)
        optimizer += f"; {len(rates)} parameter groups at the rates {told}, which keep their ratios"
    if workload.has_scheduler:
        optimizer += "; with your schedule"
    if workload.clip_grad_norm is not None:
        optimizer += f"; gradients clipped to a norm of {workload.clip_grad_norm:g}"
    return [
        Row("Model", f"{workload.model_name}{size}; {workload.how_model}"),
        Row("Loss", workload.how_loss),
        Row("Optimizer", optimizer),
        Row("Batch", workload.how_batch),
        *(Row("Note", note) for note in workload.notes),
    ]
