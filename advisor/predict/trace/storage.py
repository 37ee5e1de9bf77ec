"""A dispatch mode that sees every storage come and go, of fake tensors and of real ones alike.

    operator ─▶ its outputs: storages not seen before are allocations
    storage dies ─▶ its weak reference calls back: a free

What an operator allocates inside and frees before it returns is not seen; of CUDA's it is known
(`scratch.py`).
"""

import re
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import FrameType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, _prims_common, nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from advisor.predict.memory_trace import Category, Operators, Phase
from advisor.predict.trace.ledger import Ledger, SizeTrace
from advisor.predict.trace.modules import ModuleStack, number_of
from advisor.predict.trace.scratch import Writer, note_allocations
from advisor.training.compilation import silence_hooks

#: torch 2.8 knows it by the second name; the sizes of a trace are numbers, where both agree.
_is_non_overlapping_and_dense = next(
    getattr(_prims_common, name)
    for name in ("is_non_overlapping_and_dense_or_false", "is_non_overlapping_and_dense")
    if hasattr(_prims_common, name)
)
_ATEN = torch.ops.aten
_ASK_DEVICE = torch.ops.prim.device.default
_ADD = _ATEN.add.Tensor
_LIFT = _ATEN.lift_fresh.default
_CONVOLUTIONS = {_ATEN.convolution, _ATEN._convolution, _ATEN.convolution_backward}  # noqa: SLF001
#: Files whose frames lie between an operator and who called it.
_DISPATCH = rf"^{re.escape(__file__)}$|torch/_dynamo|torch/_compile\.py$"
#: Where a scalar made from a Python number is the optimizer's.
_HOST_PHASES = ("setup", "optimizer")


class _Sum(NamedTuple):
    """A gradient that the engine may have summed in place: its storage, its block, the summand's.

    It takes over the summand's memory if that is freed right after.
    """

    key: int
    block: int
    summand: int


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records allocations and frees in order, with phase and module.

    The autograd engine sums two gradients in place when nothing else holds the first, but never
    under a dispatch mode. Such a sum is recorded as without one. With the operators of CUDA,
    scalars that the optimizer makes from Python numbers stay on the host, and are left out.
    """

    def __init__(self, model: nn.Module | None = None, *, operators: Operators = "cpu") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operators = operators
        self._modules = ModuleStack(model)
        self._ledger = Ledger()
        self._block_of: dict[int, int] = {}  # by the address of the storage, as are the next two
        self._references: dict[int, weakref.ref[Any]] = {}
        self._host: set[int] = set()
        self._node_of: dict[int, int | None] = {}
        self._sum: _Sum | None = None
        self._flops = 0
        self._uses_tf32 = torch.get_float32_matmul_precision() != "highest"

    def __enter__(self) -> Self:
        silence_hooks()
        self._handles = [
            hooks.register_module_forward_pre_hook(self._modules.enter),
            hooks.register_module_forward_hook(self._modules.leave, always_call=True),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def mark(self, phase: Phase, step: int) -> None:
        """Begin a phase."""
        if phase == "forward":
            self._flops = 0
            self._modules.begin_step()
        self._ledger.begin(phase, step)

    def hold(
        self, tensors: Iterable[Tensor], category: Category, *, owner: Tensor | None = None
    ) -> None:
        """Say what these tensors are; one whose storage was not seen yet is an allocation.

        Of several categories of a storage the strongest wins. The owner is the parameter whose
        module they belong to; None leaves them where they are.
        """
        for tensor in tensors:
            module = self._modules.find_owner(tensor if owner is None else owner)
            for storage in _storages_in(tensor):
                if _key_of(storage) not in self._references:
                    self._allocate(storage, "", module, None)
                if (index := self._block_of.get(_key_of(storage))) is not None:
                    self._ledger.label(index, category, None if owner is None else module)

    def finish(self, micro_batch_size: int, **facts: Any) -> SizeTrace:
        """Return the trace with further facts; what happens from here on is not recorded."""
        return self._ledger.finish(
            micro_batch_size,
            operators=self._operators,
            modules=self._modules.names,
            flops_fixed=self._flops,
            uses_tf32=self._uses_tf32,
            **facts,
        )

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run the operator and note the storages it made."""
        if func is _ASK_DEVICE:
            return func(*args)
        if any(hasattr(each, "__tensor_flatten__") for each in types):
            return NotImplemented  # the wrapper's own operators follow, on the tensors it holds
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._ledger.is_open:
            count = flop_registry.get(func.overloadpacket)
            self._uses_tf32 |= func.overloadpacket in _CONVOLUTIONS
            if count is not None and self._ledger.phase in {"forward", "backward"}:
                self._flops += count(*args, **kwargs, out_val=result)
            self._note(func, (args, tuple(kwargs.values())), result)
        return result

    def _note(self, func: Any, inputs: Any, result: Any) -> None:
        node = torch._C._current_autograd_node()  # noqa: SLF001
        summand = self._find_summand(func, inputs[0], node)
        if func is _LIFT and self._operators == "cuda" and self._ledger.phase in _HOST_PHASES:
            self._host.add(_key_of(result.untyped_storage()))
            self._refer(result.untyped_storage())
        operator, module = str(func), self._modules.find_present(node)
        allocate = partial(self._allocate, operator=operator, module=module, node=node)
        note_new = partial(self._note_new, allocate)
        if self._operators == "cuda":
            writer = Writer(self._ledger, operator, module, note_new)
            note_allocations(func, inputs[0], result, writer)
        else:
            note_new(result)
        if func._schema.is_mutable:  # noqa: SLF001
            for storage in _storages_in(inputs):
                self._note_resized(storage, allocate)
        self._sum = None
        if summand is not None:
            key = _key_of(result.untyped_storage())
            if (block := self._block_of.get(key)) is not None:
                self._sum = _Sum(key, block, summand)

    def _note_new(self, allocate: Callable[[Any], None], result: Any) -> None:
        for storage in _storages_in(result):
            if _key_of(storage) not in self._references:
                allocate(storage)

    def _note_resized(self, storage: Any, allocate: Callable[[Any], None]) -> None:
        """Record a storage of another size than before as a new one in place of the old."""
        key = _key_of(storage)
        old = self._block_of.get(key)
        if key in self._host or storage.nbytes() == self._ledger.size_bytes(old):
            return
        self._block_of.pop(key, None)
        allocate(storage)
        if old is not None:
            self._ledger.replace(old, self._block_of.get(key))

    def _allocate(self, storage: Any, operator: str, module: int, node: Any) -> None:
        if storage.nbytes():
            block = self._ledger.allocate(storage.nbytes(), operator, module)
            self._block_of[_key_of(storage)] = block
            self._node_of[block] = number_of(node)
            self._refer(storage)

    def _refer(self, storage: Any) -> None:
        key = _key_of(storage)
        if key not in self._references:
            self._references[key] = weakref.ref(storage, lambda _: self._free(key))

    def _free(self, key: int) -> None:
        self._references.pop(key, None)
        self._host.discard(key)
        block = self._block_of.pop(key, None)
        if block is None:
            return
        total, self._sum = self._sum, None
        if total is None or total.key not in self._block_of:
            self._ledger.free(block)
        elif block == total.summand:  # the sum was made in place: it has this block, and no own one
            self._ledger.take_back(total.block)
            self._block_of[total.key] = block
        else:
            self._ledger.free(block)
            self._sum = total

    def _find_summand(self, func: Any, args: tuple[Any, ...], node: Any) -> int | None:
        """Return the block whose memory the engine's sum of two gradients may take over.

        The first is another node's, or the node passes two gradients to one place.
        """
        if func is not _ADD or node is None or torch.is_grad_enabled() or not _is_engine_calling():
            return None
        first = args[0]
        is_strided = (
            all(isinstance(each, Tensor) for each in args) and first.layout is torch.strided
        )
        if not (is_strided and _is_non_overlapping_and_dense(first)):
            return None
        block = self._block_of.get(_key_of(first.untyped_storage()))
        own = block is not None and self._node_of[block] == number_of(node)
        targets = node.next_functions
        return None if own and len(set(targets)) == len(targets) else block


def _is_engine_calling() -> bool:
    """Return whether the operator was called by autograd itself and by no Python function."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while frame is not None and re.search(_DISPATCH, frame.f_code.co_filename):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == "_engine_run_backward"


def _key_of(storage: Any) -> int:
    return int(storage._cdata)  # noqa: SLF001


def _storages_in(value: Any) -> Iterator[Any]:
    """Yield the storages that hold the tensors; none for a layout that has no such thing."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from _storages_in(each)
    elif isinstance(value, Tensor) and value.layout is torch.strided:
        yield value.untyped_storage()
    elif isinstance(value, Tensor) and value.layout is torch.sparse_coo:
        yield from _storages_in((value._indices(), value._values()))  # noqa: SLF001
