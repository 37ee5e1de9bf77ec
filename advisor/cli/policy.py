"""`[tool.bsadvisor.check]`: what each metric may lose."""

from pathlib import Path
from typing import TYPE_CHECKING

from advisor.cli.configuration import find_table
from advisor.errors import UsageError

if TYPE_CHECKING:
    from advisor.gate.data import Metric, Policy


def read_policies(start: Path) -> "dict[Metric, Policy]":
    """Return the policies of the nearest pyproject.toml, those that it names alone.

    A level alone, as `throughput = "warn"`, or a table with `level` and `threshold`.

    Raises:
        UsageError: One is of no metric, or no policy.
    """
    import msgspec

    from advisor.gate.data import POLICIES, Policy

    path, table = find_table(start)
    given = table.get("check", {})
    if not isinstance(given, dict):
        raise UsageError(f"{path}: tool.bsadvisor.check is not a table")
    found: dict[Metric, Policy] = {}
    for name, value in given.items():
        metric = name.replace("-", "_")
        if metric not in POLICIES:
            raise UsageError(
                f"{path}: [tool.bsadvisor.check] has no metric {name}",
                next_step=f"Metrics: {', '.join(POLICIES)}.",
            )
        fields = {"level": value} if isinstance(value, str) else value
        try:
            found[metric] = msgspec.convert(
                {**msgspec.to_builtins(POLICIES[metric]), **fields}, Policy
            )
        except (msgspec.ValidationError, TypeError) as error:
            raise UsageError(
                f"{path}: [tool.bsadvisor.check] {name}: {error}",
                next_step='Write a level, as "warn", or { level = "error", threshold = 0.05 }.',
            ) from error
    return found
