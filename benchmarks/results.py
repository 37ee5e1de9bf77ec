"""One result file for each benchmark: the figures, the machine and the commit they came from."""

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent

#: Libraries whose version may move a figure.
LIBRARIES = ("torch", "numpy", "scipy")


def write_results(name: str, payload: object) -> Path:
    """Write `results/<name>.json` beside this file and return its path.

    Args:
        name: File name without its suffix.
        payload: Anything that `json` can write; NaN and infinity are refused, use None.

    Raises:
        ValueError: The payload holds NaN or infinity.
    """
    document = {
        "benchmark": name,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": describe_commit(),
        "machine": describe_machine(),
        "results": payload,
    }
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def describe_machine() -> dict[str, object]:
    """Return platform, processor, cores and library versions; no host name."""
    return {
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _read_cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{library: _read_version(library) for library in LIBRARIES},
    }


def describe_commit() -> str | None:
    """Return the commit, `-dirty` where the working tree differs from it; None without git.

    The result files themselves do not count: the first benchmark run must not taint the second.
    """
    commit = _run_git("rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _run_git("status", "--porcelain", "--", ":/", f":(exclude){HERE / 'results'}")
    return f"{commit}-dirty" if changes else commit


def _run_git(*arguments: str) -> str | None:
    try:
        completed = subprocess.run(
            ["git", *arguments], cwd=HERE, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return completed.stdout.strip()


def _read_cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or None


def _read_version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
