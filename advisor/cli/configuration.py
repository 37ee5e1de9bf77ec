"""`[tool.bsadvisor]` of the nearest pyproject.toml: defaults, and what each metric may lose."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.errors import UsageError

if TYPE_CHECKING:
    from advisor.gate.data import Metric, Policy

#: Parameters that belong to one call, so a project file cannot fix them.
PER_CALL = frozenset(
    {
        *("model", "arguments", "module", "run", "path", "kind", "force", "restart", "list_gpus"),
        *("help", "version", "against", "new", "add"),
    }
)
#: Parameters that may be given several times.
REPEATED = frozenset({"set", "gpu", "gpu_memory", "gpu_price", "checkpoint", "export"})
#: Parameters whose one value may be a list with commas.
LISTED = frozenset({"precision", "compile", "gpus", "milestones", "batches"})


def read_defaults(
    start: Path, parameters: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, object]]:
    """Return the defaults of each command from the nearest pyproject.toml, `start` upwards.

    `parameters` has for each command its parameter names by the keys that the file may use.

    Raises:
        UsageError: The file is not valid TOML, or a key is not an option of any command.
    """
    path, table = find_table(start)
    table = {key: value for key, value in table.items() if key != "check"}  # see `read_policies`
    if path is None or not table:
        return {}
    known = {key for keys in parameters.values() for key in keys} - PER_CALL
    values = {key.replace("-", "_"): value for key, value in table.items()}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(
            f"{path}: [tool.bsadvisor] has no option {', '.join(unknown)}",
            next_step=f"Known options: {', '.join(sorted(known)).replace('_', '-')}.",
        )
    typed = {key: _as_typed(path, key, value) for key, value in values.items()}
    return {
        command: {name: typed[key] for key, name in keys.items() if key in typed}
        for command, keys in parameters.items()
    }


def find_table(start: Path) -> tuple[Path | None, dict[str, Any]]:
    """Return the nearest pyproject.toml and its `[tool.bsadvisor]`; UsageError if invalid."""
    candidates = (folder / "pyproject.toml" for folder in (start, *start.parents))
    path = next((each for each in candidates if os.path.isfile(each)), None)  # noqa: PTH113 - where it may not look, too
    if path is None:
        return None, {}
    import tomllib  # 5 ms that a folder without a project file need not pay

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}", next_step="Mend the file.") from error
    tools = document.get("tool", {})
    table = tools.get("bsadvisor", {}) if isinstance(tools, dict) else {}
    if not isinstance(table, dict):
        raise UsageError(
            f"{path}: tool.bsadvisor is not a table", next_step="Write [tool.bsadvisor]."
        )
    return path, table


def _as_typed(path: Path, key: str, value: object) -> object:
    """Return `value` as the command line would carry it, so that one parser reads both."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (str, int, float)):
        return [str(value)] if key in REPEATED else str(value)
    if key == "set" and isinstance(value, dict):
        return [f"{name}={setting}" for name, setting in value.items()]
    if isinstance(value, list) and key in LISTED | REPEATED:
        return ",".join(map(str, value)) if key in LISTED else [*map(str, value)]
    raise UsageError(
        f"{path}: [tool.bsadvisor] {key} is a {type(value).__name__}, which no option takes",
        next_step="Write text, a number, true or false.",
    )


def read_policies(start: Path) -> "dict[Metric, Policy]":
    """Return the policies of the nearest pyproject.toml, those that it names alone.

    A level alone, as `throughput = "warn"`, or a table with `level` and `threshold`.

    Raises:
        UsageError: One is of no metric, or no policy.
    """
    import msgspec
    from msgspec.structs import replace

    from advisor.gate.data import POLICIES

    path, table = find_table(start)
    given = table.get("check", {})
    if not isinstance(given, dict):
        raise UsageError(f"{path}: tool.bsadvisor.check is not a table")
    found: dict[Metric, Policy] = {}
    for name, value in given.items():
        metric = name.replace("-", "_")
        if metric not in POLICIES or metric in found:
            what = f"{metric} twice" if metric in found else f"no metric {name}"
            raise UsageError(
                f"{path}: [tool.bsadvisor.check] has {what}",
                next_step=f"Metrics, each once: {', '.join(POLICIES)}.",
            )
        usual = POLICIES[metric]
        fields = value if isinstance(value, dict) else {"level": value}
        try:
            changed = msgspec.to_builtins(replace(usual, **fields))
            found[metric] = msgspec.convert(changed, type(usual))
        except (msgspec.ValidationError, TypeError) as error:
            raise UsageError(
                f"{path}: [tool.bsadvisor.check] {name}: {error}",
                next_step='Write a level, as "warn", or { level = "error", threshold = 0.05 }.',
            ) from error
    return found
