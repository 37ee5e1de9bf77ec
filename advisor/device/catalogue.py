"""What data sheets and drivers say of GPUs that are not in this machine, and of what connects them.

A stated bandwidth is the most that wires carry; an all-reduce reaches less. Whoever has measured
one (the bus bandwidth that nccl-tests prints) gives that number instead of a name. The figures
stand in `catalogue.toml` and `interconnects.toml` beside this file.
"""

import difflib
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from advisor.device.data import Interconnect
from advisor.errors import UsageError
from advisor.units import format_bytes

#: Names without a generation stand for the one that most machines of the kind have.
_INTERCONNECT_ALIASES = {"nvlink": "nvlink4", "pcie": "pcie4", "infiniband": "infiniband-hdr"}

#: What a CUDA context with torch's kernels loaded takes, least and most: it grows with the number
#: of kernels that the CUDA version holds for the card, and with how many of them were loaded.
CONTEXT_BYTES = (round(0.3 * 2**30), round(0.6 * 2**30))

#: torch's default cuBLAS workspace for one handle: 2 blocks of 4 MiB and 8 of 16 KiB.
WORKSPACE_BYTES = 8_519_680
#: The same from this major compute capability (Hopper) on.
LARGE_WORKSPACE_BYTES = 32 << 20
_LARGE_WORKSPACE_FROM = 9

#: Where no report says what a driver keeps of the card: the largest share and the largest amount
#: among the catalogue's other cards, whichever is less.
_MOST_RESERVED_FRACTION = 0.031
_MOST_RESERVED_BYTES = 900 << 20

MemorySource = Literal["driver-reported", "nominal", "stated"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]

#: Of a card: less is a number whose unit was forgotten.
_LEAST_BYTES = 1 << 20
#: How many near names an error offers.
_SUGGESTIONS = 4


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of card, as its table in the file has it; None is unknown."""

    name: str
    #: Other names, that of the driver among them.
    aliases: tuple[str, ...] = ()
    memory_mib: float
    memory_source: MemorySource
    usable_mib: float | None = None
    tflops: dict[Precision, float] = {}
    gb_per_s: float | None = None
    compute_capability: str | None = None
    multiprocessors: int | None = None
    #: Where peaks and bandwidth come from.
    source: str | None = None

    @property
    def memory_bytes(self) -> int:
        """All of the card's memory."""
        return round(self.memory_mib * 2**20)

    @property
    def usable_bytes(self) -> int:
        """What CUDA programs together can get of it; the driver keeps the rest."""
        if self.usable_mib is not None:
            return round(self.usable_mib * 2**20)
        reserved = min(round(_MOST_RESERVED_FRACTION * self.memory_bytes), _MOST_RESERVED_BYTES)
        return self.memory_bytes - reserved

    @property
    def peak_flops(self) -> dict[str, float]:
        """Dense peak by precision, in operations each second, as far as known."""
        return {precision: 1e12 * figure for precision, figure in self.tflops.items()}

    @property
    def bandwidth_bytes_per_s(self) -> float | None:
        """Of its memory."""
        return None if self.gb_per_s is None else 1e9 * self.gb_per_s

    @property
    def capability(self) -> int | None:
        """The major number of its compute capability."""
        known = self.compute_capability
        return None if known is None else int(known.partition(".")[0])

    @property
    def workspace_bytes(self) -> int:
        """The cuBLAS workspace of one handle; the larger one where the card is not known."""
        is_old = (self.capability or _LARGE_WORKSPACE_FROM) < _LARGE_WORKSPACE_FROM
        return WORKSPACE_BYTES if is_old else LARGE_WORKSPACE_BYTES


@functools.cache
def list_gpus() -> tuple[Gpu, ...]:
    """Return every card of the catalogue, in its order."""
    return msgspec.toml.decode(_read("catalogue"), type=dict[str, tuple[Gpu, ...]])["gpu"]


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
    names = [*dict.fromkeys(by_form[form] for form in near)]
    hint = f"Did you mean {_join(names)}? " if names else ""
    more = "--list-gpus prints them all; --gpu-memory 24GiB stands for any other card."
    raise UsageError(f"there is no GPU {name!r} in the catalogue", next_step=hint + more)


def describe_stated_gpu(memory_bytes: int) -> Gpu:
    """Return a card of which only the memory is known, all of it for CUDA programs.

    Raises:
        UsageError: No card has so little: a unit was forgotten.
    """
    if memory_bytes < _LEAST_BYTES:
        raise UsageError(
            f"no card has {format_bytes(memory_bytes)}", next_step="Give a unit, as in 24GiB."
        )
    memory_mib = memory_bytes / 2**20
    return Gpu(
        name=f"GPU of {memory_bytes / 2**30:.4g} GiB",
        memory_mib=memory_mib,
        memory_source="stated",
        usable_mib=memory_mib,
    )


@functools.cache
def list_interconnects() -> dict[str, Interconnect]:
    """Return all that have a name, by it."""
    tables = msgspec.toml.decode(_read("interconnects"), type=dict[str, tuple[Interconnect, ...]])
    return {each.name: each for each in tables["interconnect"]}


def find_interconnect(text: str) -> Interconnect:
    """Return the interconnect of that name or of so many GB/s; UsageError where it is neither."""
    name = text.strip().lower()
    known = list_interconnects()
    if (found := known.get(_INTERCONNECT_ALIASES.get(name, name))) is not None:
        return found
    try:
        gb_per_s = float(name.removesuffix("gb/s"))
    except ValueError:
        gb_per_s = 0.0
    if 0.0 < gb_per_s < float("inf"):
        return Interconnect(name="the stated link", bytes_per_s=1e9 * gb_per_s, source="as stated")
    near = difflib.get_close_matches(name, known, n=3) or list(known)
    raise UsageError(
        f"no interconnect is called {text!r}",
        next_step=f"Give GB/s for each GPU and direction, such as 12.5, or: {', '.join(near)}.",
    )


def _read(name: str) -> bytes:
    return Path(__file__).with_name(f"{name}.toml").read_bytes()


def _normalise(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _forms(gpu: Gpu) -> tuple[str, ...]:
    return tuple(map(_normalise, (gpu.name, *gpu.aliases)))


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
