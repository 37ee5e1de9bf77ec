"""How close the largest eigenvalue of the Hessian comes, in how many products, and what they cost.

Run: python benchmarks/sharpness.py

On each example, before training and along it, plainly and in Adam's metric: Lanczos with the
worker's stop against Lanczos with all vectors kept orthogonal and many products; power iteration
from the same start that stops once it moves by 1 % over two products; a product beside forward and
backward of the same batch; and on digits the eigenvalue over few samples beside that of all.
"""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from results import write_results
from rich.console import Console
from rich.table import Table
from torch import Tensor

from advisor.noise.measure_metric import find_metric, trained_parameters
from advisor.sharpness.measure_eigenvalue import HessianProducts, find_largest_eigenvalue
from advisor.training.data import WorkloadSpec
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

EXAMPLES = Path(__file__).parent.parent / "examples"
#: Optimizer steps before each measurement, and samples of the Hessian, by example.
STEPS = {"digits.py": (0, 50, 400), "char_lm.py": (0, 50), "convnet.py": (0, 50)}
SAMPLES = {"digits.py": 1024, "char_lm.py": 32, "convnet.py": 32}
MICRO_BATCH_SIZE = 32
#: Of itself by which power iteration's value moves over two products where it has settled.
SETTLED_FRACTION = 0.01
REFERENCE_PRODUCTS = 40
MOST_PRODUCTS = 200
FEW_SAMPLES, DRAWS = (8, 32, 128, 512), 8
REPETITIONS = 7

Multiply = Callable[[Tensor], Tensor]


def find_reference(multiply: Multiply, start: Tensor) -> float:
    """Return the largest eigenvalue after many products, every vector orthogonal to all others."""
    basis = [(start / start.norm()).double()]
    diagonal, beside = [], []
    for _ in range(min(REFERENCE_PRODUCTS, start.numel())):
        product = multiply(basis[-1].to(start.dtype)).double()
        diagonal.append(float(product @ basis[-1]))
        for vector in (*basis, *basis):
            product -= vector * (product @ vector)
        beside.append(float(product.norm()))
        basis.append(product / beside[-1])
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    off = torch.tensor(beside[:-1], dtype=torch.float64)
    return float(torch.linalg.eigvalsh(matrix + torch.diag(off, 1) + torch.diag(off, -1))[-1])


def iterate(multiply: Multiply, start: Tensor) -> tuple[float, int]:
    """Return what power iteration settles on, and its products."""
    vector, seen = start / start.norm(), []
    while len(seen) < MOST_PRODUCTS:
        product = multiply(vector)
        seen.append(float(product @ vector))
        vector = product / product.norm()
        if len(seen) > 2 and abs(seen[-1] - seen[-3]) <= SETTLED_FRACTION * abs(seen[-1]):
            break
    return seen[-1], len(seen)


def compare(multiply: Multiply, size: int) -> dict[str, float]:
    """Return products and relative errors of both ways."""
    start = torch.randn(size, generator=torch.Generator().manual_seed(1))
    reference = find_reference(multiply, start)
    power, power_products = iterate(multiply, start)
    found = find_largest_eigenvalue(multiply, start.clone(), deadline=math.inf)
    assert found.value is not None
    return {
        "eigenvalue": reference,
        "error_fraction": found.value / reference - 1.0,
        "products": found.products,
        "power_error_fraction": power / reference - 1.0,
        "power_products": power_products,
    }


def time_product(training: Training, hessian: HessianProducts, batch: Any) -> float:
    """Return the median ratio of a product to forward and backward of its batch."""
    vector, ratios = torch.randn(hessian.size), []
    for _ in range(REPETITIONS):
        times = []
        for act in (lambda: training.backward(batch), lambda: hessian.multiply(vector)):
            began = time.perf_counter()
            act()
            times.append(time.perf_counter() - began)
        training.optimizer.zero_grad()
        ratios.append(times[1] / times[0])
    return statistics.median(ratios)


def measure(name: str, *, adam: bool) -> list[dict[str, object]]:
    """Return one row for each point and metric of the example."""
    torch.manual_seed(0)
    workload = Workload(WorkloadSpec(target=str(EXAMPLES / name), device="cpu"))
    training = workload.make_training()
    if adam:
        training.optimizer = torch.optim.AdamW(training.model.parameters(), lr=1e-3)
    generator, rows, done = torch.Generator().manual_seed(0), [], 0
    batch = workload.draw(SAMPLES[name], generator)
    for steps in STEPS[name]:
        for _ in range(steps - done):
            training.step(workload.draw(MICRO_BATCH_SIZE, generator))
        done = steps
        hessian = HessianProducts(training, [batch])
        cost = time_product(training, hessian, batch)
        found = find_metric(trained_parameters(training), training.optimizer) if adam else None
        multiply: Multiply = hessian.multiply
        if adam:
            if found is None:
                continue
            root = found.float()
            multiply = lambda v, h=hessian, r=root: r * h.multiply(r * v)  # noqa: E731
        metric = "adam" if adam else "plain"
        labels = {"example": name, "steps": steps, "metric": metric, "product_ratio": cost}
        rows.append({**labels, **compare(multiply, hessian.size)})
    return rows


def measure_few_samples() -> list[dict[str, object]]:
    """Return the mean eigenvalue over few samples of digits, over that of all samples."""
    workload = Workload(WorkloadSpec(target=str(EXAMPLES / "digits.py"), device="cpu"))
    rows = []
    for steps in STEPS["digits.py"]:
        torch.manual_seed(0)
        training, generator = workload.make_training(), torch.Generator().manual_seed(0)
        for _ in range(steps):
            training.step(workload.draw(MICRO_BATCH_SIZE, generator))

        def find(samples: int, training: Training = training) -> float:
            batch = workload.draw(samples, generator)  # noqa: B023 - called at once
            hessian = HessianProducts(training, [batch])
            start = torch.randn(hessian.size)
            found = find_largest_eigenvalue(hessian.multiply, start, deadline=math.inf)
            assert found.value is not None
            return found.value

        whole = find(workload.batches.size or 0)
        rows += [
            {
                "steps": steps,
                "samples": samples,
                "ratio": statistics.fmean(find(samples) for _ in range(DRAWS)) / whole,
            }
            for samples in FEW_SAMPLES
        ]
    return rows


def main() -> None:
    """Measure everything, print the tables, write the results."""
    rows = [row for name in STEPS for adam in (False, True) for row in measure(name, adam=adam)]
    table = Table("example", "steps", "metric", "λ", "products", "error", "power", "error", "cost")
    for row in rows:
        figures = {key: float(str(row[key])) for key in row if key not in {"example", "metric"}}
        table.add_row(
            str(row["example"]),
            str(row["steps"]),
            str(row["metric"]),
            f"{figures['eigenvalue']:.4g}",
            str(row["products"]),
            f"{figures['error_fraction']:.2%}",
            str(row["power_products"]),
            f"{figures['power_error_fraction']:.2%}",
            f"{figures['product_ratio']:.1f} x",
        )
    few = measure_few_samples()
    console = Console()
    console.print(table)
    for row in few:
        console.print(f"{row['steps']} steps, {row['samples']} samples: {row['ratio']:.2f}")
    write_results("sharpness", {"eigenvalues": rows, "few_samples": few})


if __name__ == "__main__":
    main()
