"""What gradients can travel over between GPUs, with the bandwidth that its specification states.

A stated bandwidth is the most that the wires carry; an all-reduce reaches less. Whoever has
measured one (the bus bandwidth that nccl-tests prints) gives that number instead of a name.
"""

import difflib

from advisor.device.data import Interconnect
from advisor.errors import UsageError

#: Bytes each second in one GB/s.
_GB_PER_S = 1e9

_NVLINK = "NVIDIA's data sheet of the {}, {} GB/s in both directions together, halved"
_PCIE = "PCI-SIG: {} GT/s × 16 lanes, less the 128b/130b code"
_LINE_RATE = "the line rate, one port for each GPU"

#: For each GPU and direction, in GB/s.
_TABLE: tuple[tuple[str, float, str], ...] = (
    ("nvlink5", 900.0, _NVLINK.format("B200", 1800)),
    ("nvlink4", 450.0, _NVLINK.format("H100 SXM", 900)),
    ("nvlink3", 300.0, _NVLINK.format("A100", 600)),
    ("nvlink2", 150.0, _NVLINK.format("V100 SXM2", 300)),
    ("pcie5", 63.0, _PCIE.format(32)),
    ("pcie4", 31.5, _PCIE.format(16)),
    ("pcie3", 15.75, _PCIE.format(8)),
    ("infiniband-ndr", 50.0, f"{_LINE_RATE}, 400 Gb/s"),
    ("infiniband-hdr", 25.0, f"{_LINE_RATE}, 200 Gb/s"),
    ("ethernet-400g", 50.0, f"{_LINE_RATE}, 400 Gb/s"),
    ("ethernet-200g", 25.0, f"{_LINE_RATE}, 200 Gb/s"),
    ("ethernet-100g", 12.5, f"{_LINE_RATE}, 100 Gb/s"),
    ("ethernet-25g", 3.125, f"{_LINE_RATE}, 25 Gb/s"),
    ("ethernet-10g", 1.25, f"{_LINE_RATE}, 10 Gb/s"),
)
#: Names without a generation stand for the one that most machines of the kind have.
_ALIASES = {"nvlink": "nvlink4", "pcie": "pcie4", "infiniband": "infiniband-hdr"}

INTERCONNECTS = {
    name: Interconnect(name=name, bytes_per_s=gb_per_s * _GB_PER_S, source=source)
    for name, gb_per_s, source in _TABLE
}


def find_interconnect(text: str) -> Interconnect:
    """Return the interconnect that `text` names, or the one of as many GB/s as it says.

    Raises:
        UsageError: It is neither a known name nor a number above zero.
    """
    name = text.strip().lower()
    known = INTERCONNECTS.get(_ALIASES.get(name, name))
    if known is not None:
        return known
    try:
        gb_per_s = float(name.removesuffix("gb/s"))
    except ValueError:
        gb_per_s = 0.0
    if 0.0 < gb_per_s < float("inf"):
        bytes_per_s = gb_per_s * _GB_PER_S
        return Interconnect(name="the stated link", bytes_per_s=bytes_per_s, source="as stated")
    near = difflib.get_close_matches(name, INTERCONNECTS, n=3) or list(INTERCONNECTS)
    raise UsageError(
        f"no interconnect is called {text!r}",
        next_step=f"Give GB/s for each GPU and direction, such as 12.5, or: {', '.join(near)}.",
    )
