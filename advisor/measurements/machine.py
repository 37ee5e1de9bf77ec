"""The device, the software, and the counters."""

from typing import Literal

import msgspec


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """A counter of the machine: its value now, or the reason why there is none."""

    name: str
    value: float | None = None
    unit: str | None = None
    missing_because: str | None = None


class DeviceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The device as its own runtime reports it.

    Attributes:
        kind: `cpu`, `cuda` or `mps`.
        name: Marketing name.
        memory_bytes: All of its memory.
        available_bytes: What a new process could take when the run began (for the CPU the
            container's limit included).
        index: Which of several.
        uuid_hash: First 12 hex digits of the SHA-256 of the device's UUID.
    """

    kind: Literal["cpu", "cuda", "mps"]
    name: str
    memory_bytes: int
    available_bytes: int
    index: int = 0
    uuid_hash: str | None = None


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Machine and software of the run."""

    device: DeviceFacts
    torch: str
    python: str
    platform: str
    cpu: str
    cpu_threads: int
    driver: str | None = None
    cuda: str | None = None
    timer_resolution_s: float | None = None
    worker_start_s: float | None = None
    counters: tuple[Counter, ...] = ()
