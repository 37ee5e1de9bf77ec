"""The model file, and how it is to be run."""

from pathlib import Path
from typing import Literal

import msgspec

from advisor.errors import UsageError

Precision = Literal["fp32", "tf32", "bf16", "fp16"]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A model file or module, and the name of the model factory in it.

    Attributes:
        text: As typed.
        path: The file, or None for a module.
        module: The dotted module, or None for a file.
        name: The factory asked for, or None for the known names.
    """

    text: str
    path: str | None
    module: str | None
    name: str | None


def parse_target(text: str) -> Target:
    """Return what `path.py`, `path.py:name` or `package.module:name` points at.

    Raises:
        UsageError: There is no such file, or the text is neither a file nor a module.
    """
    head, separator, tail = text.rpartition(":")
    location, name = (head, tail) if separator and tail.isidentifier() else (text, None)
    if Path(location).is_file():
        if not location.endswith(".py"):
            raise UsageError(
                f"{location} is not a Python file: its name does not end in .py",
                next_step="Give the model file; `bsadvisor init` writes one to start from.",
            )
        return Target(text=text, path=location, module=None, name=name)
    parts = location.split(".")
    if location.endswith(".py") or not all(part.isidentifier() for part in parts):
        raise UsageError(
            f"there is no model file {location}",
            next_step="Give the path of a model file; `bsadvisor init` writes one to start from.",
        )
    return Target(text=text, path=None, module=location, name=name)


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run the same training.

    Attributes:
        precision: As in `WorkloadSpec`.
        compile: As in `WorkloadSpec`.
    """

    precision: Precision
    compile: bool = False


def name_variant(precision: str, *, compiled: bool) -> str:
    """Return what a variant is called: `bf16`, `bf16 compiled`."""
    return f"{precision} compiled" if compiled else precision


class TokenCount(msgspec.Struct, frozen=True, kw_only=True):
    """How the tokens that a loss averages over are counted in a batch.

    Attributes:
        tensor: Which tensor of the batch, in the order in which its structure holds them.
        ignored: Elements of this value do not count.
        is_shifted: Whether the first of each row is no target, as where a model predicts the next.
    """

    tensor: int
    ignored: int
    is_shifted: bool = False


class WorkloadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which model to run, and how.

    Attributes:
        target: `path.py`, `path.py:name`, or `package.module:name`, as typed.
        settings: Extra keyword parameters of the user's functions, as typed after `--set`.
        device: `auto`, `cpu`, `mps`, `cuda` or `cuda:<index>`.
        precision: Arithmetic of the training step; never changed silently.
        compile: Whether the model goes through `torch.compile`.
        seed: Seeds every random generator of every worker.
        base_batch_size: Global batch size for which the user's learning rate was tuned; overrides
            the model file's `BASE_BATCH_SIZE`.
    """

    target: str
    settings: dict[str, str] = {}
    device: str = "auto"
    precision: Precision = "fp32"
    compile: bool = False
    seed: int = 0
    base_batch_size: int | None = None
