"""`[tool.bsadvisor.check]`: what each metric may lose."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    from advisor.gate.data import POLICIES

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
        if metric in found:
            raise UsageError(
                f"{path}: [tool.bsadvisor.check] has {metric} twice", next_step="Leave one out."
            )
        try:
            found[metric] = _make_policy(value, POLICIES[metric])
        except (msgspec.ValidationError, TypeError) as error:
            raise UsageError(
                f"{path}: [tool.bsadvisor.check] {name}: {error}",
                next_step='Write a level, as "warn", or { level = "error", threshold = 0.05 }.',
            ) from error
    return found


def _make_policy(value: Any, usual: "Policy") -> "Policy":
    """Return the usual policy with what a project says in its place.

    Raises:
        msgspec.ValidationError, TypeError: The value is no policy.
    """
    import msgspec

    fields = value if isinstance(value, dict) else {"level": value}
    unknown = [name for name in fields if name not in usual.__struct_fields__]
    if unknown:
        raise TypeError(f"there is no {unknown[0]}")
    return msgspec.convert({**msgspec.to_builtins(usual), **fields}, type(usual))
