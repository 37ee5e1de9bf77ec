"""Products of the Hessian of the mean loss with vectors, over micro-batches that stay the same.

A product differentiates the gradient of each micro-batch a second time, in the direction of the
vector (Pearlmutter 1994), and adds the results up. The loss is that of training: train mode, its
precision, its random numbers the same in every product, so that all products are of one matrix.
"""

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from advisor.engine.worker.entry import seed_everything
from advisor.noise.preconditioner import trained_parameters
from advisor.training.model_file.buffers import preserve_buffers
from advisor.training.training import Training

#: Micro-batch k draws its random numbers from this seed + k in every product.
_SEED = 77_003


class NoSecondDerivativeError(Exception):
    """The gradient does not depend on the parameters in a way that autograd can follow."""


class HessianProducts:
    """The Hessian at the present parameters, known by its products alone.

    Memory: the graph of one micro-batch's gradient, the gradient, and the product.

    Args:
        training: The model and its optimizer; neither is changed, `.grad` is not used.
        batches: Of one size; on any device.
        to_device: Moves a batch to the model's device.
        divisor: The batch size where the loss sums over its batch, so that it is made a mean.
        is_compiled: Whether the model goes through `torch.compile`, which cannot differentiate
            twice; it runs eagerly then.

    Attributes:
        size: Elements of a vector: those of the parameters that the optimizer moves.
        device: Where vectors live.
        dtype: Of vectors.
    """

    def __init__(
        self,
        training: Training,
        batches: Sequence[Any],
        *,
        to_device: Callable[[Any], Any],
        divisor: float = 1.0,
        is_compiled: bool = False,
    ) -> None:
        self._training = training
        self._batches = batches
        self._to_device = to_device
        self._factor = 1.0 / (divisor * len(batches))
        self._is_compiled = is_compiled
        self._parameters = trained_parameters(training)
        self._sizes = [parameter.numel() for parameter in self._parameters]
        self.size = sum(self._sizes)
        self._is_checked = False
        self.device = training.device
        is_double = any(parameter.dtype == torch.float64 for parameter in self._parameters)
        self.dtype = torch.float64 if is_double else torch.float32

    def multiply(self, vector: Tensor) -> Tensor:
        """Return the Hessian of the mean loss times the vector.

        Raises:
            NoSecondDerivativeError: No gradient leads back to a parameter, or some of it does not.
            RuntimeError: A part of the model cannot be differentiated twice.
        """
        product = torch.zeros_like(vector)
        directions, totals = self._split(vector), self._split(product)
        with fixed_conditions(self._training, is_compiled=self._is_compiled):
            is_found = False
            for number, batch in enumerate(self._batches):
                seed_everything(_SEED + number)
                is_found |= self._add_product(self._to_device(batch), directions, totals)
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
        if not self._is_checked:
            _refuse_dead_ends([gradient for gradient, _ in pairs])
            self._is_checked = True
        outputs, weights = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        products = torch.autograd.grad(
            outputs, self._parameters, grad_outputs=weights, allow_unused=True
        )
        for total, product in zip(totals, products, strict=True):
            if product is not None:
                total.add_(product.to_dense() if product.is_sparse else product, alpha=1.0 / scale)
        return any(product is not None for product in products)

    def _split(self, vector: Tensor) -> list[Tensor]:
        """Return views of the vector in the shapes of the parameters."""
        parts = torch.split(vector, self._sizes)
        return [
            part.view(parameter.shape)
            for part, parameter in zip(parts, self._parameters, strict=True)
        ]


def _refuse_dead_ends(gradients: list[Tensor]) -> None:
    """Raise where the graph ends in an error that autograd would pass by.

    A backward that is marked to run once leaves such a node; it leads to no parameter, so that a
    product would silently lack what lies behind it.

    Raises:
        NoSecondDerivativeError: There is such a node.
    """
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
def fixed_conditions(training: Training, *, is_compiled: bool = False) -> Iterator[None]:
    """Let the block differentiate twice, and put random state and buffers back afterwards.

    Attention takes its plain form and recurrent layers do without cuDNN: their fast forms have no
    second derivative.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(module, nn.RNNBase) for module in training.model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if is_compiled:
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(preserve_buffers(training.model))
        stack.enter_context(_preserve_randomness(training.device))
        yield


@contextmanager
def _preserve_randomness(device: torch.device) -> Iterator[None]:
    numpy_random = sys.modules["numpy"].random if "numpy" in sys.modules else None
    own = random.getstate()
    numpys = None if numpy_random is None else numpy_random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(own)
        if numpy_random is not None:
            numpy_random.set_state(numpys)
