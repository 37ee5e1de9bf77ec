"""`bsadvisor doctor --aa MODEL`: run it, save each session, and print what it says."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.cli.results import is_stdout, write_stdout, writing
from advisor.errors import AdvisorError

if TYPE_CHECKING:
    from advisor.engine.commands import SelfComparisonSpec
    from advisor.noise_floor.record import SelfComparisonRecord


def compare_model(spec: "SelfComparisonSpec", json_path: Path | None, *, quiet: bool) -> None:
    """Time the model against itself; whatever ends it early, print what was timed before."""
    from advisor.cli.progress_display import open_progress
    from advisor.engine.files import write_self_comparison
    from advisor.noise_floor.plan import compare_with_itself
    from advisor.noise_floor.stage import run_self_comparison

    path = None if is_stdout(json_path) else json_path
    latest: list[SelfComparisonRecord] = []

    def save(record: "SelfComparisonRecord") -> None:
        latest[:] = [record]
        if path is not None:
            with writing(path):
                derived = compare_with_itself(record.probes, record.telemetry, record.environment)
                write_self_comparison(path, record, derived)

    try:
        with open_progress(quiet=quiet) as progress:
            record = run_self_comparison(spec, argv=sys.argv, progress=progress, save=save)
    except (KeyboardInterrupt, AdvisorError):
        if latest and latest[0].probes:
            print_self_comparison(latest[0], json_path)
        raise
    print_self_comparison(record, json_path)


def print_self_comparison(record: "SelfComparisonRecord", json_path: Path | None = None) -> None:
    """Print the report, or the JSON document; nothing for people where nothing was timed."""
    from advisor.noise_floor.plan import compare_with_itself

    derived = compare_with_itself(record.probes, record.telemetry, record.environment)
    if is_stdout(json_path):
        from advisor.engine.files import encode_self_comparison

        write_stdout(encode_self_comparison(record, derived))
    elif derived is not None:
        from rich.console import Console

        from advisor.noise_floor.tell import write_self_comparison

        write_self_comparison(Console(), record, derived)
