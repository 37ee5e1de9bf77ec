"""Every figure of the documents can be made again: the benchmarks go with the code."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
IMPORT = """
import importlib, sys
sys.path.insert(0, {folder!r})
for name in {names!r}:
    importlib.import_module(name)
"""


def test_every_benchmark_can_be_imported():
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    assert "regret" in names
    code = IMPORT.format(folder=str(BENCHMARKS), names=names)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=BENCHMARKS.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_result_has_its_benchmark():
    results = {path.stem for path in (BENCHMARKS / "results").glob("*.json")}
    code = "".join(path.read_text(encoding="utf-8") for path in BENCHMARKS.glob("*.py"))
    assert [name for name in sorted(results) if name not in code] == []
