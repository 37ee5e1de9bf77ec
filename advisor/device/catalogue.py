"""What data sheets and drivers say of GPUs that are not in this machine: memory, peaks, bandwidth.

The figures stand in `catalogue.toml` beside this file.
"""

import difflib
import functools
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from advisor.errors import UsageError

_FILE = Path(__file__).with_name("catalogue.toml")

#: What a CUDA context with torch's kernels loaded takes, least and most: it grows with the number
#: of kernels that the CUDA version holds for the card, and with how many of them were loaded.
CONTEXT_BYTES = (round(0.3 * 2**30), round(0.6 * 2**30))

#: torch's default cuBLAS workspace for one handle: 2 blocks of 4 MiB and 8 of 16 KiB.
WORKSPACE_BYTES = 8_519_680
#: The same from compute capability 9.0 (Hopper) on.
LARGE_WORKSPACE_BYTES = 32 << 20
_LARGE_WORKSPACE_FROM = (9, 0)

#: Where no report says what a driver keeps of the card: the largest share and the largest amount
#: among the catalogue's other cards, whichever is less.
_MOST_RESERVED_FRACTION = 0.031
_MOST_RESERVED_BYTES = 900 << 20

MemorySource = Literal["driver-reported", "nominal", "stated"]

#: How many near names an error offers.
_SUGGESTIONS = 4


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of card; None is unknown.

    Attributes:
        aliases: Other names, that of the driver among them.
        usable_bytes: What CUDA programs together can get of it; the driver keeps the rest.
        peak_flops: Dense peak by precision, in operations each second, as far as known.
        context_bytes: Least and most that a process takes beside its tensors.
        workspace_bytes: cuBLAS workspace of one handle.
        source: Where peaks and bandwidth come from.
    """

    name: str
    memory_bytes: int
    memory_source: MemorySource
    usable_bytes: int
    aliases: tuple[str, ...] = ()
    peak_flops: dict[str, float] = {}
    bandwidth_bytes_per_s: float | None = None
    context_bytes: tuple[int, int] = CONTEXT_BYTES
    workspace_bytes: int = LARGE_WORKSPACE_BYTES
    compute_capability: str | None = None
    source: str | None = None


@functools.cache
def list_gpus() -> tuple[Gpu, ...]:
    """Return every card of the catalogue, in its order."""
    document = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(_gpu(entry) for entry in msgspec.convert(document, _Catalogue).gpu)


def recognise_gpu(name: str) -> Gpu | None:
    """Return the card of exactly this name, such as the driver's; None where there is none."""
    return next((gpu for gpu in list_gpus() if _normalise(name) in _forms(gpu)), None)


def find_gpu(name: str) -> Gpu:
    """Return the card that `name` means; case, spaces and dashes do not count.

    A part of a name is enough where one card alone has it.

    Raises:
        UsageError: No card has the name, or several have that part.
    """
    if (gpu := recognise_gpu(name)) is not None:
        return gpu
    part = _normalise(name)
    matches = [gpu for gpu in list_gpus() if part and any(part in form for form in _forms(gpu))]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UsageError(
            f"--gpu {name} could be {_join([gpu.name for gpu in matches])}",
            next_step="Write the whole name.",
        )
    by_form = {form: gpu.name for gpu in list_gpus() for form in _forms(gpu)}
    near = difflib.get_close_matches(part, by_form, n=_SUGGESTIONS, cutoff=0.5)
    names = dict.fromkeys(by_form[form] for form in near)
    hint = f"Did you mean {_join(list(names))}? " if names else ""
    raise UsageError(
        f"there is no GPU {name!r} in the catalogue",
        next_step=(
            f"{hint}--list-gpus prints them all; --gpu-memory 24GiB stands for any other card."
        ),
    )


def describe_stated_gpu(memory_bytes: int) -> Gpu:
    """Return a card of which only the memory is known, all of it for CUDA programs.

    Its workspace is the larger of the two, so that the prediction errs to the safe side.
    """
    return Gpu(
        name=f"GPU of {memory_bytes / 2**30:.4g} GiB",
        memory_bytes=memory_bytes,
        memory_source="stated",
        usable_bytes=memory_bytes,
    )


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file; the file's head says what its keys mean."""

    name: str
    aliases: tuple[str, ...]
    memory_mib: int
    memory_source: MemorySource
    usable_mib: int | None = None
    tflops: dict[Literal["fp32", "tf32", "bf16", "fp16"], float]
    gb_per_s: float
    compute_capability: str
    source: str


class _Catalogue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    gpu: tuple[_Entry, ...]


def _gpu(entry: _Entry) -> Gpu:
    memory = entry.memory_mib << 20
    reserved = min(round(_MOST_RESERVED_FRACTION * memory), _MOST_RESERVED_BYTES)
    capability = tuple(map(int, entry.compute_capability.split(".")))
    is_large = capability >= _LARGE_WORKSPACE_FROM
    return Gpu(
        name=entry.name,
        aliases=entry.aliases,
        memory_bytes=memory,
        memory_source=entry.memory_source,
        usable_bytes=memory - reserved if entry.usable_mib is None else entry.usable_mib << 20,
        peak_flops={precision: figure * 1e12 for precision, figure in entry.tflops.items()},
        bandwidth_bytes_per_s=entry.gb_per_s * 1e9,
        workspace_bytes=LARGE_WORKSPACE_BYTES if is_large else WORKSPACE_BYTES,
        compute_capability=entry.compute_capability,
        source=entry.source,
    )


def _normalise(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _forms(gpu: Gpu) -> tuple[str, ...]:
    return tuple(map(_normalise, (gpu.name, *gpu.aliases)))


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
