"""What is asked of device, what was seen of it, and what follows: the types."""

from itertools import pairwise
from typing import Literal

import msgspec

from advisor.figures import Bytes, Count, Duration, Figure, PerSecond


class Counter(msgspec.Struct, frozen=True, kw_only=True):
    """A counter of the machine: its value now, or the reason why there is none."""

    name: str
    value: Figure | None = None
    unit: str | None = None
    missing_because: str | None = None


class DeviceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The device as its own runtime reports it."""

    kind: Literal["cpu", "cuda", "mps"]
    name: str
    memory_bytes: Bytes
    #: What a new process could take when the run began (for the CPU the container's limit
    #: included).
    available_bytes: Bytes
    #: Which of several.
    index: Count = 0
    #: First 12 hex digits of the SHA-256 of the device's UUID.
    uuid_hash: str | None = None
    #: Who made the GPU; `cuda` is AMD's too where torch was built for ROCm.
    vendor: Literal["nvidia", "amd", "apple"] | None = None


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Machine and software of the run."""

    device: DeviceFacts
    torch: str
    python: str
    platform: str
    cpu: str
    cpu_threads: Count
    driver: str | None = None
    cuda: str | None = None
    timer_resolution_s: Duration | None = None
    worker_start_s: Duration | None = None
    #: Of the data sheet, where the catalogue has the device: the dense peak by precision.
    peak_flops: dict[str, PerSecond] = {}
    bandwidth_bytes_per_s: PerSecond | None = None
    counters: tuple[Counter, ...] = ()


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of the device and the machine over one session, sampled outside of its worker.

    A series is as long as `at_s`, or empty where the machine has no such counter; `counters` then
    says why.
    """

    #: Number of the worker process, as in `Probe`.
    session: int
    #: When each sample was taken, by the machine's monotonic clock, ascending.
    at_s: tuple[Figure, ...] = ()
    #: Energy since some time in the past; never falls.
    energy_j: tuple[Figure, ...] = ()
    power_w: tuple[Figure, ...] = ()
    sm_clock_mhz: tuple[Duration, ...] = ()
    temperature_c: tuple[Figure, ...] = ()
    #: Memory of the device that other processes hold.
    foreign_memory_bytes: tuple[Bytes, ...] = ()
    #: Share of all processors' time that other processes took since the sample before.
    foreign_cpu_fraction: tuple[Figure, ...] = ()
    #: By cause, seconds that the clock was held down since some time in the past; never falls.
    #: Causes: `power_cap`, `thermal`, `brake`, and others by the driver's name.
    slowdown_s: dict[str, tuple[Figure, ...]] = {}
    #: Those that are missing, each with its reason.
    counters: tuple[Counter, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a series that is not as long as its times, and a sum that falls."""
        series = (
            *(self.energy_j, self.power_w, self.sm_clock_mhz, self.temperature_c),
            *(self.foreign_memory_bytes, self.foreign_cpu_fraction, *self.slowdown_s.values()),
        )
        if any(each and len(each) != len(self.at_s) for each in series):
            raise ValueError("a series is not as long as `at_s`")
        sums = (self.at_s, self.energy_j, *self.slowdown_s.values())
        if any(after < before for each in sums for before, after in pairwise(each)):
            raise ValueError("`at_s`, `energy_j` or a series of `slowdown_s` falls")


class Interconnect(msgspec.Struct, frozen=True, kw_only=True):
    """What gradients travel over between the GPUs."""

    name: str
    bytes_per_s: PerSecond  #: For each GPU and direction.
    source: str
