"""torch.compile in a worker: every shape really compiled, and every compilation noticed.

Left to itself, dynamo makes one graph for all shapes from the second shape on, and runs eagerly
from the ninth graph on without a word. A user's loop has one batch size, and so one fixed shape.
"""

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from advisor.errors import WorkloadError
from advisor.training.model_file.lightning import is_lightning_type

#: Graphs of one function that dynamo may keep: more than any worker makes, so that it never runs
#: eagerly instead.
_MOST_GRAPHS = 1 << 20
#: Times that something is run again because a compilation fell into it. One is usual where a
#: gradient's first backward compiles late; a model that never ends compiles at every step.
_MOST_ATTEMPTS = 8

_T = TypeVar("_T")

_begun: list[object] = []


def silence_hooks() -> None:
    """Have torch not warn of our hooks on modules that the user has compiled."""
    warnings.filterwarnings("ignore", message="Using `torch.compile.* global hooks")


def compile_in_place(model: nn.Module) -> None:
    """Have `torch.compile` compile what the user's loss calls of the model; no graph is given up.

    In place, so that the loss meets the compiled model: `model.compile()`, but that compiles
    nothing of a class of torch's own such as nn.Sequential, whose code dynamo passes over unless
    another frame calls it, and nothing of a LightningModule's `training_step`.
    """
    _keep_all_graphs()
    if is_lightning_type(type(model)):
        training_step: Any = model.training_step
        object.__setattr__(model, "training_step", torch.compile(training_step))
    elif type(model).forward.__module__.partition(".")[0] == "torch":
        forward = model.forward
        model.forward = torch.compile(lambda *a, **named: forward(*a, **named))  # noqa: PLW0108
    else:
        model.compile()


def compile_each_shape() -> None:
    """Have each shape compiled for itself in this process, and count compilations from now on."""
    import torch._dynamo  # noqa: PLC0415 - a new interpreter would pay for it without need

    _keep_all_graphs()
    torch._dynamo.config.automatic_dynamic_shapes = False  # noqa: SLF001
    torch._dynamo.callback.on_compile_start(lambda *_: _begun.append(None))  # noqa: SLF001


def count_compilations() -> int:
    """Return how many compilations began in this process so far."""
    # Frames that dynamo looked at count as well: its list of callbacks is cleared by a reset.
    return len(_begun) + int(_counters()["frames"]["total"])


def count_graphs() -> int:
    """Return how many graphs were compiled in this process so far."""
    return int(_counters()["stats"]["unique_graphs"])


def run_compiled(act: Callable[[], _T]) -> _T:
    """Return the result of the first run in which nothing was compiled; else WorkloadError."""
    for _ in range(_MOST_ATTEMPTS):
        before = count_compilations()
        result = act()
        if count_compilations() == before:
            return result
    raise WorkloadError(
        "torch.compile compiles the model anew again and again, so that no step could be timed "
        "without it",
        next_step="Run your loop with TORCH_LOGS=recompiles to see what changes from step to step, "
        "or leave --compile out.",
    )


def load_compiler() -> None:
    """Compile and train one small layer on the CPU, so that the compiler is loaded afterwards."""
    layer = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    compile_in_place(layer)
    torch.autograd.backward(layer(torch.ones(2, 4)).sum())


def _keep_all_graphs() -> None:
    import torch._dynamo  # noqa: PLC0415

    torch._dynamo.config.recompile_limit = _MOST_GRAPHS  # noqa: SLF001
    torch._dynamo.config.accumulated_recompile_limit = _MOST_GRAPHS  # noqa: SLF001


def _counters() -> Any:
    from torch._dynamo.utils import counters  # noqa: PLC0415

    return counters
