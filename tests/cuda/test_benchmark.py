"""The benchmark for the day on which there is a card runs from end to end."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_memory_part_runs_and_its_results_have_a_file_of_their_own(cards, tmp_path):
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(BENCHMARKS)!r})
sys.argv = ["gpu.py", "--parts", "memory", "--models", "perceptron"]
import results
results.HERE = Path({str(tmp_path)!r})
import gpu
gpu.PRECISIONS = ("fp32",)
gpu.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results").iterdir()
    assert path.name == "gpu_pretended.json"
    row = json.loads(path.read_text())["results"]["rows"][0]
    assert len(row["sizes"]) == 3
    assert all(abs(each["error_fraction"]) < 0.02 for each in row["sizes"])
