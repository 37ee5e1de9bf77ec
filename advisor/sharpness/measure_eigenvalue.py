"""The largest eigenvalue of the Hessian of the mean loss, by products with vectors alone.

Legend: A the matrix, v_k Lanczos' vectors, T the tridiagonal matrix of ⟨v_i, A v_j⟩ with α on its
diagonal and β beside it, θ the largest eigenvalue of T, which is never above that of A.
"""

import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn
from torch.backends import cudnn
from torch.nn.attention import SDPBackend, sdpa_kernel

from advisor.noise.measure_metric import choose_dtype, trained_parameters
from advisor.training.model_file.batches import to_device
from advisor.training.model_file.buffers import preserve_buffers
from advisor.training.model_file.order import seed_everything
from advisor.training.training import Training

#: Micro-batch k draws its random numbers from this seed + k in every product.
_SEED = 77_003
#: Most products for one eigenvalue; what has not settled by then has a cluster at its end.
_MOST_PRODUCTS = 100
#: θ has settled when its residual |A y − θ y| is below this fraction of it. An eigenvalue is within
#: the residual of θ: the largest, or θ is short of that by at most residual / share, where share is
#: what the start has of its vector, for y has no less. For a share of 1 % that is 2 %.
_RESIDUAL_FRACTION = 2e-4
#: Below this fraction of the largest |eigenvalue| seen it need not be known as closely.
_LEAST_FRACTION = 0.02
#: ⟨v_k, A v_{k+1}⟩ and ⟨v_{k+1}, A v_k⟩ that differ by more than this fraction of it are not those
#: of a symmetric matrix; rounding stays far below.
_ASYMMETRY_FRACTION = 0.1
#: β below this fraction of it: the vectors span all that A reaches.
_BREAKDOWN_FRACTION = 1e-5


class LargestEigenvalue(NamedTuple):
    """What the products showed."""

    value: float | None  # too low where it has not converged; None where nothing can be said
    products: int
    converged: bool = False
    is_symmetric: bool = True  # and finite, as far as the products show


def find_largest_eigenvalue(
    multiply: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    deadline: float,
    most: int = _MOST_PRODUCTS,
) -> LargestEigenvalue:
    """Return the largest eigenvalue, not the largest in magnitude.

    The vectors are not made orthogonal again: rounding then repeats eigenvalues in T and adds none
    that A does not have. `start` must not be orthogonal to the eigenvector, and is changed. No
    product begins after the deadline, on the clock of `time.perf_counter`.

    Source: Lanczos 1950; without orthogonalisation Paige 1972, J. Inst. Math. Appl. 10:373; the
    residual's bound Parlett 1980, The Symmetric Eigenvalue Problem, section 4.5.
    """
    vector, previous = start.div_(torch.linalg.vector_norm(start)), torch.zeros_like(start)
    diagonal: list[float] = []
    beside: list[float] = []
    theta = 0.0
    while len(diagonal) < most and time.perf_counter() <= deadline:
        product = multiply(vector)
        alpha, back = float(product @ vector), float(product @ previous)
        beta = beside[-1] if beside else 0.0
        diagonal.append(alpha)
        refused = LargestEigenvalue(None, len(diagonal), is_symmetric=False)
        if not math.isfinite(alpha):
            return refused
        values, vectors = eigh_tridiagonal(diagonal, beside)
        theta, weight = float(values[-1]), abs(float(vectors[-1, -1]))
        magnitude = float(abs(values).max())
        if abs(back - beta) > _ASYMMETRY_FRACTION * magnitude:
            return refused
        product.sub_(vector, alpha=alpha).sub_(previous, alpha=beta)
        beside.append(float(torch.linalg.vector_norm(product)))
        is_exhausted = beside[-1] <= _BREAKDOWN_FRACTION * magnitude
        scale = max(abs(theta), _LEAST_FRACTION * magnitude)
        if is_exhausted or beside[-1] * weight <= _RESIDUAL_FRACTION * scale:
            return LargestEigenvalue(theta, len(diagonal), converged=True)
        previous, vector = vector, product.div_(beside[-1])
    return LargestEigenvalue(theta if len(diagonal) > 1 else None, len(diagonal))


class NoSecondDerivativeError(Exception):
    """The gradient does not depend on the parameters in a way that autograd can follow."""


class HessianProducts:
    """The Hessian at the present parameters that the optimizer moves, known by its products alone.

    A product differentiates the gradient of each micro-batch, all of one size, a second time, in
    the direction of the vector (Pearlmutter 1994). The loss is that of training in train mode,
    divided by `divisor`, with the same random numbers in every product: all are of one matrix.
    Nothing of the training is changed.
    """

    def __init__(self, training: Training, batches: Sequence[Any], *, divisor: float = 1.0) -> None:
        self._training, self._batches = training, batches
        self._factor = 1.0 / (divisor * len(batches))
        self._parameters = trained_parameters(training)
        self._sizes = [parameter.numel() for parameter in self._parameters]
        self._is_checked = False
        self.size = sum(self._sizes)  # elements of a vector
        self.device = training.device
        self.dtype = choose_dtype(self._parameters)

    def make_start(self, seed: int) -> Tensor:
        """Return a random vector, the same at every point and on every device."""
        generator = torch.Generator("cpu").manual_seed(seed)
        return torch.randn(self.size, generator=generator, device="cpu").to(self.device, self.dtype)

    def multiply(self, vector: Tensor) -> Tensor:
        """Return the Hessian of the mean loss times the vector.

        Raises NoSecondDerivativeError where no gradient leads back to a parameter, or some of it
        does not.
        """
        product = torch.zeros_like(vector)
        directions, totals = self._split(vector), self._split(product)
        is_found = False
        with fixed_conditions(self._training):
            for number, batch in enumerate(self._batches):
                seed_everything(_SEED + number)
                moved = to_device(batch, self.device)
                is_found |= self._add_product(moved, directions, totals)
        if not is_found:
            raise NoSecondDerivativeError("nothing of its gradient depends on the parameters")
        return product.mul_(self._factor)

    def _add_product(self, batch: Any, directions: list[Tensor], totals: list[Tensor]) -> bool:
        """Add one micro-batch's product; return whether its gradient could be differentiated."""
        scale = self._training.gradient_scale()  # so that fp16's small numbers do not vanish
        loss = self._training.loss(batch) * scale
        gradients = torch.autograd.grad(
            loss, self._parameters, create_graph=True, allow_unused=True
        )
        pairs = [
            (gradient, direction.to(gradient.dtype))
            for gradient, direction in zip(gradients, directions, strict=True)
            if gradient is not None and gradient.requires_grad  # type: ignore[redundant-expr]
        ]
        if not pairs:
            return False
        outputs, weights = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if not self._is_checked:
            _refuse_dead_ends(outputs)
            self._is_checked = True
        products = torch.autograd.grad(
            outputs, self._parameters, grad_outputs=weights, allow_unused=True
        )
        for total, product in zip(totals, products, strict=True):
            if product is not None:
                total.add_(product.to_dense() if product.is_sparse else product, alpha=1.0 / scale)
        return any(product is not None for product in products)

    def _split(self, vector: Tensor) -> list[Tensor]:
        parts = torch.split(vector, self._sizes)
        return [p.view_as(parameter) for p, parameter in zip(parts, self._parameters, strict=True)]


def _refuse_dead_ends(gradients: list[Tensor]) -> None:
    """Raise where a backward is marked to run once: autograd passes by what lies behind it."""
    seen: set[Any] = set()
    waiting: list[Any] = [gradient.grad_fn for gradient in gradients]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            raise NoSecondDerivativeError("one of its functions is marked once_differentiable")
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)


@contextmanager
def fixed_conditions(training: Training) -> Iterator[None]:
    """Let the block differentiate twice, and put random state and buffers back afterwards.

    Attention takes its plain form, recurrent layers do without cuDNN and compiled models run
    eagerly: their fast forms have no second derivative.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(module, nn.RNNBase) for module in training.model.modules()):
            # torch's own context reads flags that a user may have set in part alone.
            stack.callback(setattr, cudnn, "enabled", cudnn.enabled)
            cudnn.enabled = False
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and its import is slow
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(preserve_buffers(training.model))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002
        devices = [training.device] if training.device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=devices))
        yield
