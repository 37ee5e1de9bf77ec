"""Where the script's steps are seen: hooks of torch's own, or one function deep.

What the script, or a library that was imported before, has taken by name is seen all the same: each
function that is replaced is looked up at each call.
"""

import functools
import numbers
import random
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, multiprocessing
from torch.nn.utils import clip_grad
from torch.optim import lr_scheduler
from torch.optim import optimizer as torch_optimizer
from torch.utils.data import dataloader

from advisor.training.script.sizes import Sizes
from advisor.training.script.stream import StepStream

#: Runs what a hook does; whatever it raises is not the script's to catch.
Guard = Callable[[Callable[[], Any]], Any]
#: What numpy takes, the least of the three.
_SEEDS = 2**32


def watch_steps(
    stream: StepStream,
    guard: Guard,
    *,
    on_pass: Callable[[], None],
    on_enough: Callable[[], None],
) -> None:
    """Have the stream see every optimizer step from here on, for as long as the process lives.

    Args:
        stream: Sees them.
        guard: Runs what each hook does.
        on_pass: Called after each backward pass.
        on_enough: Called once an observer has seen enough.
    """

    def before(optimizer: Any, args: Any, kwargs: Any) -> Any:
        return guard(lambda: stream.begin_step(optimizer, args, kwargs))

    def after(optimizer: Any, args: Any, kwargs: Any) -> None:  # noqa: ARG001 - torch's signature
        if not guard(lambda: stream.end_step(optimizer)):
            guard(on_enough)

    torch_optimizer.register_optimizer_step_pre_hook(before)
    torch_optimizer.register_optimizer_step_post_hook(after)
    _watch_backward(stream, lambda: guard(on_pass))
    _watch_scaler(stream)
    _watch_clipping(stream, guard)
    _hold_schedules(stream)


def watch_loading(stream: StepStream, sizes: Sizes) -> None:
    """Have the stream see what each batch of a DataLoader was waited for.

    Those of an evaluation, without gradients, are no part of a step.
    """
    kind: Any = dataloader._BaseDataLoaderIter  # noqa: SLF001 - of either number of workers
    original = kind.__next__

    def load(iterator: Any) -> Any:
        started = time.perf_counter()
        batch = original(iterator)
        if torch.is_grad_enabled():
            stream.wait(time.perf_counter() - started)
            if not sizes.is_known:
                sizes.see_loader(iterator, batch)
        return batch

    kind.__next__ = load


def watch_inputs(sizes: Sizes) -> Callable[[], None]:
    """Have the inputs of models that are called with gradients told; return what ends that."""
    warnings.filterwarnings("ignore", message="Using `torch.compile.* global hooks")

    def see(module: Any, inputs: tuple[Any, ...]) -> None:
        if not torch.compiler.is_compiling() and torch.is_grad_enabled():
            sizes.see_call(module, inputs)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(see)
    return handle.remove


def watch_failures(stream: StepStream) -> None:
    """Have the stream see what the forward pass of the first model that trains raises."""

    def find(module: Any, inputs: tuple[Any, ...]) -> None:  # noqa: ARG001 - torch's signature
        if module.training and next(module.parameters(), None) is not None:
            handle.remove()
            module.register_forward_hook(see, always_call=True)

    def see(module: Any, inputs: Any, output: Any) -> None:  # noqa: ARG001 - torch's signature
        error = sys.exception()
        if error is not None and output is None:
            stream.see_failure(error)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(find)


def refuse_spawning(refuse: Callable[[], Any]) -> None:
    """Call this where the script starts ranks of its own: they are not followed."""
    for name in ("spawn", "start_processes"):
        setattr(multiprocessing, name, lambda *_args, **_kwargs: refuse())


def start_anew(seed: int, offset: int) -> None:
    """Have every seed that the script sets be another one, and the generators begin elsewhere."""
    torch.manual_seed = torch.random.manual_seed = _shift(torch.manual_seed, offset)
    random.seed = _shift(random.seed, offset)
    torch.manual_seed(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        numpy = sys.modules["numpy"]
        numpy.random.seed = _shift(numpy.random.seed, offset)
        numpy.random.seed(seed)


def _shift(original: Callable[..., Any], offset: int) -> Callable[..., Any]:
    def move(value: Any) -> Any:
        return (int(value) + offset) % _SEEDS if isinstance(value, numbers.Integral) else value

    def seed(*args: Any, **kwargs: Any) -> Any:
        moved = {name: move(value) for name, value in kwargs.items() if name in {"seed", "a"}}
        return original(*map(move, args[:1]), *args[1:], **(kwargs | moved))

    return seed


def _watch_backward(stream: StepStream, on_pass: Callable[[], None]) -> None:
    original = torch.autograd.backward

    def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        result, is_counted = stream.run_backward(
            tensors, lambda: original(tensors, *args, **kwargs)
        )
        if is_counted:
            on_pass()
        return result

    torch.autograd.backward = backward


def _hold_schedules(stream: StepStream) -> None:
    """Have torch's schedules stand still in frozen steps, as if these had not been."""
    for kind in vars(lr_scheduler).values():
        if isinstance(kind, type) and hasattr(kind, "load_state_dict") and "step" in vars(kind):
            _hold(kind, stream)


def _hold(kind: Any, stream: StepStream) -> None:
    original = kind.step

    @functools.wraps(original)
    def step(schedule: Any, *args: Any, **kwargs: Any) -> None:
        is_made = hasattr(schedule, "_last_lr")  # it takes a step when it is made
        if not (stream.is_frozen and stream.count and is_made):
            original(schedule, *args, **kwargs)

    kind.step = step


def _watch_scaler(stream: StepStream) -> None:
    """Take a GradScaler's factor off the losses that are seen, and see the steps it leaves out."""
    kind: Any = torch.amp.GradScaler
    scale, step = kind.scale, kind.step

    def scale_outputs(scaler: Any, outputs: Any) -> Any:
        scaled = scale(scaler, outputs)
        stream.scaler = scaler if scaler.is_enabled() else None
        if isinstance(scaled, Tensor) and scaler.is_enabled():
            scaled.bsadvisor_scale = scaler._get_scale_async()  # type: ignore[attr-defined]  # noqa: SLF001
        return scaled

    def step_scaled(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        before = stream.count
        result = step(scaler, optimizer, *args, **kwargs)
        if stream.count == before and not stream.others:
            stream.see_skipped(optimizer)
        return result

    kind.scale, kind.step = scale_outputs, step_scaled


def _watch_clipping(stream: StepStream, guard: Guard) -> None:
    module: Any = clip_grad
    original_norm, original_value = module._clip_grads_with_norm_, module.clip_grad_value_

    def clip_norm(parameters: Any, max_norm: float, *args: Any, **kwargs: Any) -> Any:
        kept = list(parameters) if not isinstance(parameters, Tensor) else parameters
        guard(lambda: stream.see_clipping(float(max_norm)))
        return original_norm(kept, max_norm, *args, **kwargs)

    def clip_value(*args: Any, **kwargs: Any) -> Any:
        guard(lambda: stream.see_clipping(None))
        return original_value(*args, **kwargs)

    module._clip_grads_with_norm_ = clip_norm
    module.clip_grad_value_ = torch.nn.utils.clip_grad_value_ = clip_value
