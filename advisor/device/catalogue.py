"""What data sheets and drivers say of GPUs that are not in this machine: memory, peaks, bandwidth.

The figures stand in `catalogue.toml` beside this file.
"""

import difflib
import functools
import tomllib
from collections.abc import Iterable
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
    """One kind of card.

    Attributes:
        name: As the tool prints it.
        aliases: Other names, that of the driver among them.
        memory_bytes: All of its memory.
        memory_source: Whether the driver reports that figure, the data sheet names it, or the user
            stated it.
        usable_bytes: What CUDA programs together can get of it; the driver keeps the rest.
        peak_flops: Dense peak by precision, in operations each second; a precision that the card
            has no figure for is missing.
        bandwidth_bytes_per_s: Of the card's memory; None where unknown.
        context_bytes: Least and most that a process takes beside its tensors.
        workspace_bytes: cuBLAS workspace of one handle.
        compute_capability: As CUDA numbers it; None where unknown.
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


def list_gpus() -> tuple[Gpu, ...]:
    """Return every card of the catalogue, in its order."""
    return _read_catalogue()


def recognise_gpu(name: str) -> Gpu | None:
    """Return the card of exactly this name, such as the driver's; None where there is none."""
    wanted = _normalise(name)
    for gpu in list_gpus():
        if wanted in {_normalise(known) for known in _names(gpu)}:
            return gpu
    return None


def find_gpu(name: str) -> Gpu:
    """Return the card that `name` means; case, spaces and dashes do not count.

    A part of a name is enough where one card alone has it.

    Raises:
        UsageError: No card has the name, or several have that part.
    """
    wanted = _normalise(name)
    gpu = recognise_gpu(name)
    if gpu is not None:
        return gpu
    matches = [gpu for gpu in list_gpus() if wanted and _is_part(wanted, gpu)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UsageError(
            f"--gpu {name} could be {_join(gpu.name for gpu in matches)}",
            next_step="Write the whole name.",
        )
    raise UsageError(f"there is no GPU {name!r} in the catalogue", next_step=_advise(name))


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


@functools.cache
def _read_catalogue() -> tuple[Gpu, ...]:
    document = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(_gpu(entry) for entry in msgspec.convert(document, _Catalogue).gpu)


def _gpu(entry: _Entry) -> Gpu:
    memory = entry.memory_mib << 20
    reserved = min(round(_MOST_RESERVED_FRACTION * memory), _MOST_RESERVED_BYTES)
    major, minor = (int(part) for part in entry.compute_capability.split("."))
    is_large = (major, minor) >= _LARGE_WORKSPACE_FROM
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


def _is_part(wanted: str, gpu: Gpu) -> bool:
    return any(wanted in _normalise(known) for known in _names(gpu))


def _advise(name: str) -> str:
    by_form = {_normalise(known): gpu.name for gpu in list_gpus() for known in _names(gpu)}
    near = difflib.get_close_matches(_normalise(name), by_form, n=_SUGGESTIONS, cutoff=0.5)
    names = dict.fromkeys(by_form[form] for form in near)
    hint = f"Did you mean {_join(names)}? " if names else ""
    return f"{hint}--list-gpus prints them all; --gpu-memory 24GiB stands for any other card."


def _names(gpu: Gpu) -> tuple[str, ...]:
    return gpu.name, *gpu.aliases


def _join(names: Iterable[str]) -> str:
    listed = list(names)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"
