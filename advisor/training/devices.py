"""The device that a name stands for, and what is asked of it."""

import os

import torch

from advisor.device.nvml import hash_uuid
from advisor.errors import DeviceError, shorten


def resolve_device(name: str) -> torch.device:
    """Return the device asked for; DeviceError where there is none such.

    `auto` is CUDA, of several ranks the card of each, where there is one, else MPS, else the CPU.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")  # none to train on
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) < count:
            return torch.device("cuda", device.index or 0)
        why = "" if count else _explain_absence()
        raise DeviceError(
            f"there is no {name}: torch sees {count} CUDA devices{why}",
            next_step="Run `bsadvisor doctor` to see what torch sees, or use --device cpu.",
        )
    if device.type == "cpu" or (device.type == "mps" and torch.backends.mps.is_available()):
        return device
    raise DeviceError(
        f"{name!r} is not a device that is here",
        next_step="Use auto, cpu, mps, cuda or cuda:<index>.",
    )


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that was issued to it: a clock then tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def release_cached_memory(device: torch.device) -> None:
    """Give cached, unused memory back, so that one batch size does not fragment the next."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def hash_device_uuid(device: torch.device) -> str | None:
    """Return the hash by which a record names the card, NVIDIA only."""
    if device.type != "cuda" or torch.version.hip:
        return None
    return hash_uuid(str(torch.cuda.get_device_properties(device).uuid))


def find_allocator_cap_bytes(device: torch.device) -> int | None:
    """Return the cap that the user's code put on torch's allocator, None without one."""
    if device.type != "cuda":
        return None
    fraction = torch.cuda.get_per_process_memory_fraction(device)
    total = torch.cuda.get_device_properties(device).total_memory
    return int(fraction * total) if fraction < 1.0 else None


def _explain_absence() -> str:
    """Return why torch sees no CUDA device, in brackets; empty where nothing tells."""
    why = []
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - of any kind: it says what is wrong
        why.append(shorten(error))
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        why.append(f"CUDA_VISIBLE_DEVICES is {visible!r}")
    return f" ({'; '.join(why)})" if why else ""
