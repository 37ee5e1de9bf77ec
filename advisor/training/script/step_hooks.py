"""The hooks before and after each step of any optimizer, and those of steps that are timed."""

from collections.abc import Callable
from typing import Any

from torch.optim import optimizer as torch_optimizer

from advisor.training.script.patches import Patches
from advisor.training.script.stream import StepStream

#: Runs what a hook does; whatever it raises is not the script's to catch.
Guard = Callable[[Callable[[], Any]], Any]


class StepHooks:
    """Has a stream see every optimizer step from here on, for as long as the process lives.

    Args:
        stream: Sees them.
        patches: Are switched with them.
        guard: Runs what each hook does.
        on_enough: Called once an observer has seen enough.
    """

    def __init__(
        self, stream: StepStream, patches: Patches, guard: Guard, on_enough: Callable[[], None]
    ) -> None:
        self._stream, self._patches = stream, patches
        self._guard, self._on_enough = guard, on_enough
        self._before = torch_optimizer.register_optimizer_step_pre_hook(self._begin)
        self._after = torch_optimizer.register_optimizer_step_post_hook(self._end)
        stream.on_timing = self._switch

    def _begin(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        return self._guard(lambda: self._stream.begin_step(optimizer, args, kwargs))

    def _end(self, optimizer: Any, args: Any, kwargs: Any) -> None:  # noqa: ARG002 - torch's
        if not self._guard(lambda: self._stream.end_step(optimizer)):
            self._guard(self._on_enough)

    def _switch(self) -> None:
        """Have the hooks be those of the steps that come."""
        timed = self._stream.timed
        self._before.remove()
        self._patches.switch(timed)
        if timed is None or timed.splits:
            begin = self._begin if timed is None else timed.begin
            self._before = torch_optimizer.register_optimizer_step_pre_hook(begin)
        # torch goes through these now: one may be replaced then, but none added or removed.
        end = self._end if timed is None else timed.make_hook(self._end)
        torch_optimizer._global_optimizer_post_hooks[self._after.id] = end  # noqa: SLF001
