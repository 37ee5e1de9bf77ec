"""What is asked of device, what was seen of it, and what follows: the types."""

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
        available_bytes: What a new process could take when the run began (for the CPU the
            container's limit included).
        index: Which of several.
        uuid_hash: First 12 hex digits of the SHA-256 of the device's UUID.
        vendor: Who made the GPU; `cuda` is AMD's too where torch was built for ROCm.
    """

    kind: Literal["cpu", "cuda", "mps"]
    name: str
    memory_bytes: int
    available_bytes: int
    index: int = 0
    uuid_hash: str | None = None
    vendor: Literal["nvidia", "amd", "apple"] | None = None


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
    #: Of the data sheet, where the catalogue has the device: the dense peak by precision.
    peak_flops: dict[str, float] = {}
    bandwidth_bytes_per_s: float | None = None
    counters: tuple[Counter, ...] = ()


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of the device and the machine over one session, sampled outside of its worker.

    A series is as long as `at_s`, or empty where the machine has no such counter; `counters` then
    says why.

    Attributes:
        session: Number of the worker process, as in `Probe`.
        at_s: When each sample was taken, by the machine's monotonic clock, ascending.
        energy_j: Energy since some time in the past; never falls.
        foreign_memory_bytes: Memory of the device that other processes hold.
        foreign_cpu_fraction: Share of all processors' time that other processes took since the
            sample before.
        slowdown_s: By cause, seconds that the clock was held down since some time in the past;
            never falls. Causes: `power_cap`, `thermal`, `brake`, and others by the driver's name.
        counters: Those that are missing, each with its reason.
    """

    session: int
    at_s: tuple[float, ...] = ()
    energy_j: tuple[float, ...] = ()
    power_w: tuple[float, ...] = ()
    sm_clock_mhz: tuple[float, ...] = ()
    temperature_c: tuple[float, ...] = ()
    foreign_memory_bytes: tuple[int, ...] = ()
    foreign_cpu_fraction: tuple[float, ...] = ()
    slowdown_s: dict[str, tuple[float, ...]] = {}
    counters: tuple[Counter, ...] = ()


class Interconnect(msgspec.Struct, frozen=True, kw_only=True):
    """What gradients travel over between the GPUs."""

    name: str
    bytes_per_s: float  #: For each GPU and direction.
    source: str
