"""What gradients can travel over between GPUs, with the bandwidth that its specification states.

A stated bandwidth is the most that the wires carry; an all-reduce reaches less. Whoever has
measured one (the bus bandwidth that nccl-tests prints) gives that number instead of a name. The
figures stand in `interconnects.toml` beside this file.
"""

import difflib
import functools
from pathlib import Path

import msgspec

from advisor.device.data import Interconnect
from advisor.errors import UsageError

_FILE = Path(__file__).with_name("interconnects.toml")
#: Names without a generation stand for the one that most machines of the kind have.
_ALIASES = {"nvlink": "nvlink4", "pcie": "pcie4", "infiniband": "infiniband-hdr"}


@functools.cache
def list_interconnects() -> dict[str, Interconnect]:
    """Return all that have a name, by it."""
    tables = msgspec.toml.decode(_FILE.read_bytes(), type=dict[str, tuple[Interconnect, ...]])
    return {each.name: each for each in tables["interconnect"]}


def find_interconnect(text: str) -> Interconnect:
    """Return the interconnect of that name or of so many GB/s; UsageError where it is neither."""
    name = text.strip().lower()
    known = list_interconnects()
    if (found := known.get(_ALIASES.get(name, name))) is not None:
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
