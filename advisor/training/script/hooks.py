"""Where the script's steps are seen: hooks of torch's own, or one function deep.

In steps that are timed there is one, which reads the clock at the end of some; where these are
split as well, the optimizer's part and the waits for data are timed.

What the script, or a library that was imported before, has taken by name is seen all the same: each
function that is replaced is looked up at each call.
"""

import functools
import numbers
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, multiprocessing
from torch.nn.utils import clip_grad
from torch.optim import lr_scheduler
from torch.optim import optimizer as optimizers
from torch.utils.data import dataloader

from advisor.training.compilation import silence_hooks
from advisor.training.script.sizes import Sizes
from advisor.training.script.stream import StepStream
from advisor.training.script.timed import TimedSteps

#: Runs what a hook does; whatever it raises is not the script's to catch.
Guard = Callable[[Callable[[], Any]], Any]
#: What numpy takes, the least of the three.
_SEEDS = 2**32


def wrap(owner: Any, name: str, act: Callable[..., Any]) -> tuple[Any, Any]:
    """Have this act in place of a function, which it gets first; return the two."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        return act(original, *args, **kwargs)

    setattr(owner, name, replacement)
    return original, replacement


class Patches:
    """Functions of torch's that are replaced while steps are watched, and its own where not."""

    def __init__(self) -> None:
        self._all: list[tuple[Any, str, Any, Any, bool]] = []

    def put(self, owner: Any, name: str, act: Callable[..., Any], *, splits: bool = False) -> None:
        """Wrap a function, in steps that are split as well or not."""
        self._all.append((owner, name, *wrap(owner, name, act), splits))

    def switch(self, timed: TimedSteps | None) -> None:
        """Have those in place that are to see the next steps; what others have put there stays."""
        for owner, name, original, replacement, splits in self._all:
            is_on = timed is None or (timed.splits and splits)
            new, old = (replacement, original) if is_on else (original, replacement)
            if getattr(owner, name) is old:
                setattr(owner, name, new)


def watch_steps(stream: StepStream, sizes: Sizes, guard: Guard) -> None:
    """Have these see what the script does from here on, for as long as the process lives."""
    silence_hooks()
    patches = Patches()
    _watch_optimizers(patches, stream, guard)
    _watch_backward(patches, stream)
    _watch_scaler(patches, stream)
    _watch_clipping(patches, stream, guard)
    _hold_schedules(patches, stream)
    _watch_loading(patches, stream, sizes)


def _watch_loading(patches: Patches, stream: StepStream, sizes: Sizes) -> None:
    """Have the stream see what each batch of a DataLoader was waited for.

    Those of an evaluation, without gradients, are no part of a step.
    """

    def load(original: Any, iterator: Any) -> Any:
        started = time.perf_counter()
        batch = original(iterator)
        if torch.is_grad_enabled():
            stream.wait(time.perf_counter() - started)
            if not sizes.is_known:
                sizes.see_loader(iterator, batch)
        return batch

    kind: Any = dataloader._BaseDataLoaderIter  # noqa: SLF001 - of either number of workers
    patches.put(kind, "__next__", load, splits=True)


def watch_inputs(sizes: Sizes) -> Callable[[], None]:
    """Have the inputs of models that are called with gradients told; return what ends that."""

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
    torch.manual_seed(seed)
    modules: tuple[Any, Any] = (random, getattr(sys.modules.get("numpy"), "random", None))
    for module in modules:
        if module is not None:
            module.seed = _shift(module.seed, offset)
            module.seed(seed)


def _shift(original: Callable[..., Any], offset: int) -> Callable[..., Any]:
    def move(value: Any) -> Any:
        return (int(value) + offset) % _SEEDS if isinstance(value, numbers.Integral) else value

    def seed(*args: Any, **kwargs: Any) -> Any:
        moved = {name: move(value) for name, value in kwargs.items() if name in {"seed", "a"}}
        return original(*map(move, args[:1]), *args[1:], **(kwargs | moved))

    return seed


def _watch_optimizers(patches: Patches, stream: StepStream, guard: Guard) -> None:
    """Have the stream see each optimizer step, and of those that are timed no more than it must."""

    def begin(optimizer: Any, args: Any, kwargs: Any) -> Any:
        return guard(lambda: stream.begin_step(optimizer, args, kwargs))

    def end(optimizer: Any, args: Any, kwargs: Any) -> None:  # noqa: ARG001 - torch's signature
        guard(lambda: stream.end_step(optimizer))

    before = optimizers.register_optimizer_step_pre_hook(begin)
    after = optimizers.register_optimizer_step_post_hook(end)

    def switch() -> None:
        nonlocal before
        timed = stream.timed
        before.remove()
        patches.switch(timed)
        if timed is None or timed.splits:
            see = begin if timed is None else timed.begin
            before = optimizers.register_optimizer_step_pre_hook(see)
        # torch goes through these now: one may be replaced then, but none added or removed.
        hook = end if timed is None else timed.make_hook(end)
        optimizers._global_optimizer_post_hooks[after.id] = hook  # noqa: SLF001

    stream.on_timing = switch


def _watch_backward(patches: Patches, stream: StepStream) -> None:
    def backward(original: Any, tensors: Any, *args: Any, **kwargs: Any) -> Any:
        return stream.run_backward(tensors, lambda: original(tensors, *args, **kwargs))

    patches.put(torch.autograd, "backward", backward)


def _hold_schedules(patches: Patches, stream: StepStream) -> None:
    """Have torch's schedules stand still in frozen steps, as if these had not been."""

    def step(original: Any, schedule: Any, *args: Any, **kwargs: Any) -> None:
        is_made = hasattr(schedule, "_last_lr")  # it takes a step when it is made
        if not (stream.is_frozen and stream.count and is_made):
            original(schedule, *args, **kwargs)

    for kind in vars(lr_scheduler).values():
        if isinstance(kind, type) and hasattr(kind, "load_state_dict") and "step" in vars(kind):
            patches.put(kind, "step", step)


def _watch_scaler(patches: Patches, stream: StepStream) -> None:
    """Take a GradScaler's factor off the losses that are seen, and see the steps it leaves out."""

    def scale(original: Any, scaler: Any, outputs: Any) -> Any:
        scaled = original(scaler, outputs)
        stream.scaler = scaler if scaler.is_enabled() else None
        if isinstance(scaled, Tensor) and scaler.is_enabled():
            scaled.bsadvisor_scale = scaler._get_scale_async()  # type: ignore[attr-defined]  # noqa: SLF001
        return scaled

    def step(original: Any, scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        before = stream.count
        result = original(scaler, optimizer, *args, **kwargs)
        if stream.count == before and not stream.others:
            stream.see_skipped(optimizer)
        return result

    patches.put(torch.amp.GradScaler, "scale", scale)
    patches.put(torch.amp.GradScaler, "step", step)


def _watch_clipping(patches: Patches, stream: StepStream, guard: Guard) -> None:
    def clip_norm(original: Any, parameters: Any, max_norm: float, *args: Any, **more: Any) -> Any:
        guard(lambda: stream.see_clipping(float(max_norm)))
        return original(parameters, max_norm, *args, **more)

    def clip_value(original: Any, *args: Any, **kwargs: Any) -> Any:
        guard(lambda: stream.see_clipping(None))
        return original(*args, **kwargs)

    patches.put(clip_grad, "_clip_grads_with_norm_", clip_norm)
    for module in (clip_grad, torch.nn.utils):
        patches.put(module, "clip_grad_value_", clip_value)
