"""`bsadvisor lr-range MODEL`: the learning-rate range test."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.cli import options
from advisor.cli.failures import reporting_failures
from advisor.cli.quantities import parse_settings
from advisor.cli.results import is_stdout, refuse_unwritable, write_stdout, writing
from advisor.cli.variants import parse_precision
from advisor.errors import AdvisorError, InconclusiveError

if TYPE_CHECKING:
    from advisor.engine.commands import LrRangeSpec
    from advisor.rate.range_record import LrRangeRecord


@reporting_failures
def lr_range(
    model: options.Model,
    *,
    device: options.Device = "auto",
    precision: options.Precision = "fp32",
    global_batch_size: options.GlobalBatchSize = None,
    micro_batch_size: options.SplitBatchSize = None,
    low_rate: options.LowRate = None,
    high_rate: options.HighRate = None,
    steps: options.RangeSteps = 200,
    seeds: options.RangeSeeds = 3,
    budget: options.Budget = options.DEFAULT_BUDGET_S,
    seed: options.Seed = 0,
    settings: options.Settings = None,
    json_path: options.JsonFile = None,
    html_path: options.HtmlFile = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,  # noqa: ARG001
) -> None:
    """Find the learning rates that train, by a range test.

    The rate rises with every step from far too low to far too high; the suggested rate is then
    trained at from fresh starts before it is printed.
    """
    pairs = parse_settings(settings or [])
    one_precision = parse_precision(precision)

    from advisor.engine.commands import LrRangeSpec
    from advisor.training.data import WorkloadSpec

    spec = LrRangeSpec(
        workload=WorkloadSpec(
            target=model, settings=pairs, device=device, precision=one_precision, seed=seed
        ),
        global_batch_size=global_batch_size,
        micro_batch_size=micro_batch_size,
        low_rate=low_rate,
        high_rate=high_rate,
        steps=steps,
        seeds=seeds,
        budget_s=budget,
    )
    _run(spec, json_path, html_path, quiet=quiet)


def print_lr_range(
    record: "LrRangeRecord",
    *,
    json_path: Path | None = None,
    html_path: Path | None = None,
    quiet: bool,
) -> bool:
    """Print the report, or the JSON document; return whether there is a rate."""
    from advisor.rate.range_record import derive_lr_range

    derived = derive_lr_range(record)
    if html_path is not None:
        from advisor.rate.range_report import write_lr_range_html

        with writing(html_path):
            write_lr_range_html(html_path, record, derived)
    if is_stdout(json_path):
        from advisor.engine.files import encode_lr_range

        write_stdout(encode_lr_range(record, derived))
    else:
        from rich.console import Console

        from advisor.rate.range_report import write_lr_range_report

        write_lr_range_report(Console(), record, derived, headline_only=quiet)
    return derived.learning_rate is not None and derived.learning_rate.value is not None


def _run(
    spec: "LrRangeSpec", json_path: Path | None, html_path: Path | None, *, quiet: bool
) -> None:
    from advisor.cli.progress_display import open_progress
    from advisor.engine.files import write_lr_range
    from advisor.rate.range_command import run_lr_range
    from advisor.rate.range_record import derive_lr_range

    path = None if is_stdout(json_path) else json_path
    for each in (path, html_path):
        refuse_unwritable(each)
    latest: list[LrRangeRecord] = []

    def save(record: "LrRangeRecord") -> None:
        latest[:] = [record]
        if path is not None:
            with writing(path):
                write_lr_range(path, record, derive_lr_range(record))

    try:
        with open_progress(quiet=quiet) as progress:
            record = run_lr_range(spec, argv=sys.argv, progress=progress, save=save)
    except (KeyboardInterrupt, AdvisorError):
        if latest and latest[0].lr_ranges:
            print_lr_range(latest[0], json_path=json_path, html_path=html_path, quiet=quiet)
        raise
    if not print_lr_range(record, json_path=json_path, html_path=html_path, quiet=quiet):
        raise _explain(record)


def _explain(record: "LrRangeRecord") -> InconclusiveError:
    from advisor.rate.range_record import derive_lr_range

    rate = derive_lr_range(record).learning_rate
    reason = "nothing was measured" if rate is None else rate.reason
    return InconclusiveError(f"no learning rate: {reason}")
