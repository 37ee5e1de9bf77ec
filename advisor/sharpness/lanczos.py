"""The largest eigenvalue of a symmetric matrix of which only products with vectors are known.

Legend: A the matrix, v_k Lanczos' vectors, T the tridiagonal matrix of ⟨v_i, A v_j⟩ with α on its
diagonal and β beside it, θ the largest eigenvalue of T, which is never above that of A.
"""

import math
import time
from collections.abc import Callable

import msgspec
import torch
from torch import Tensor

#: Most products for one eigenvalue; what has not settled by then has a cluster at its end.
_MOST_PRODUCTS = 100
#: θ has settled when it moved by less than this fraction over two products ...
SETTLED_FRACTION = 0.01
#: ... and its residual |A y − θ y| is below this fraction of it, which a plateau on the way up does
#: not allow. The eigenvalue's own error is about its square.
_RESIDUAL_FRACTION = 0.03
#: A largest eigenvalue below this fraction of the largest |eigenvalue| seen, a negative one then,
#: need not be known as closely.
_LEAST_FRACTION = 0.02
#: ⟨v_k, A v_{k+1}⟩ and ⟨v_{k+1}, A v_k⟩ that differ by more than this fraction of the largest
#: |eigenvalue| seen are not those of a symmetric matrix; rounding stays far below.
_ASYMMETRY_FRACTION = 0.1
#: β below this fraction of the largest |eigenvalue| seen: the vectors span all that A reaches.
_BREAKDOWN_FRACTION = 1e-5

Multiply = Callable[[Tensor], Tensor]


class LargestEigenvalue(msgspec.Struct, frozen=True, kw_only=True):
    """What the products showed.

    Attributes:
        value: The largest eigenvalue, or below it where it has not converged; None where nothing
            can be said.
        products: Products taken.
        converged: Whether it settled.
        is_symmetric: Whether the products are finite and look like those of a symmetric matrix.
    """

    value: float | None
    products: int
    converged: bool
    is_symmetric: bool = True


def find_largest_eigenvalue(
    multiply: Multiply, start: Tensor, *, deadline: float, most: int = _MOST_PRODUCTS
) -> LargestEigenvalue:
    """Return the largest eigenvalue, not the largest in magnitude.

    Power iteration would find the latter, and needs a second, shifted run where it is negative.
    Lanczos approaches both ends at once, with fewer products. The vectors are not made orthogonal
    again, which would need them all: rounding then repeats eigenvalues in T and adds none that A
    does not have.

    Args:
        multiply: A; its argument must not be changed by it.
        start: Any vector that is not orthogonal to the eigenvector; it is changed.
        deadline: On the clock of `time.perf_counter`; no product begins after it.
        most: Most products.

    Source: Lanczos 1950; without orthogonalisation Paige 1972, J. Inst. Math. Appl. 10:373.
    """
    vector, previous = start.div_(torch.linalg.vector_norm(start)), torch.zeros_like(start)
    diagonal: list[float] = []
    beside: list[float] = []
    largest: list[float] = []
    while len(diagonal) < most:
        if time.perf_counter() > deadline:
            break
        product = multiply(vector)
        alpha, back = float(product @ vector), float(product @ previous)
        beta = beside[-1] if beside else 0.0
        diagonal.append(alpha)
        if not math.isfinite(alpha):
            return _refuse(diagonal)
        theta, weight, magnitude = _solve(diagonal, beside)
        largest.append(theta)
        if abs(back - beta) > _ASYMMETRY_FRACTION * magnitude:
            return _refuse(diagonal)
        product.sub_(vector, alpha=alpha).sub_(previous, alpha=beta)
        beside.append(float(torch.linalg.vector_norm(product)))
        is_exhausted = beside[-1] <= _BREAKDOWN_FRACTION * magnitude
        if is_exhausted or _has_settled(largest, beside[-1] * weight, magnitude):
            return LargestEigenvalue(value=theta, products=len(diagonal), converged=True)
        previous, vector = vector, product.div_(beside[-1])
    return LargestEigenvalue(
        value=largest[-1] if len(largest) > 1 else None,
        products=len(largest),
        converged=False,
    )


def _refuse(diagonal: list[float]) -> LargestEigenvalue:
    return LargestEigenvalue(
        value=None, products=len(diagonal), converged=False, is_symmetric=False
    )


def _solve(diagonal: list[float], beside: list[float]) -> tuple[float, float, float]:
    """Return θ, the last component of its eigenvector in size, and the largest |eigenvalue|."""
    size = len(diagonal)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if size > 1:
        off = torch.tensor(beside[: size - 1], dtype=torch.float64)
        matrix += torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return float(values[-1]), abs(float(vectors[-1, -1])), float(values.abs().max())


def _has_settled(largest: list[float], residual: float, magnitude: float) -> bool:
    if len(largest) < 3:
        return False
    moved = largest[-1] - largest[-3]
    scale = max(abs(largest[-1]), _LEAST_FRACTION * magnitude)
    return moved <= SETTLED_FRACTION * scale and residual <= _RESIDUAL_FRACTION * scale
