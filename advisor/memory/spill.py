"""Training steps that run, but out of memory that is not the device's."""

from collections.abc import Sequence

from advisor.device.data import Environment
from advisor.memory.data import Probe
from advisor.memory.failed_allocation import render_bytes

#: A step this many times slower than the law of the smaller sizes waits for memory elsewhere: what
#: caches and kernels do to the time of a sample stays below a factor of two.
SPILL_FACTOR = 3.0
#: Share of the peak that the kernel swapped out during a probe, above which the size does not fit.
SWAPPED_FRACTION = 0.01


def can_spill(environment: Environment) -> bool:
    """Return whether a device may lend host memory silently, so that a step slows instead of fails.

    Linux's CUDA driver does not: an allocation gets device memory or fails. Windows (WSL included)
    and ROCm may page to the host, and an Apple GPU shares its memory with everything else. A CPU's
    swap is counted, not timed: its step times say more about who else is computing.

    Source: the drivers' documentation; derived.
    """
    kind, platform = environment.device.kind, environment.platform.lower()
    if kind == "cuda":
        return environment.cuda is None or "windows" in platform or "microsoft" in platform
    return kind == "mps"


def find_spill(probe: Probe, earlier: Sequence[Probe], *, timed: bool) -> str | None:
    """Return how a probe that ran shows that it did not fit; None where it does not.

    By the kernel's count of what was swapped out, or, where asked, by a step more than
    `SPILL_FACTOR` times slower than both the affine law of the smaller sizes and their largest one
    in proportion.

    Args:
        probe: The latest.
        earlier: Probes before it; two sizes at least are needed for a law.
        timed: Whether the step time may tell; see `can_spill`.

    Source: derived.
    """
    if probe.outcome != "fit":
        return None
    peak = max(probe.forward_backward_peak_bytes or 0, probe.optimizer_peak_bytes or 0)
    if probe.swapped_bytes and probe.swapped_bytes > SWAPPED_FRACTION * peak:
        return (
            f"the kernel swapped out {render_bytes(probe.swapped_bytes)} of the process, so the "
            "size does not fit in memory"
        )
    expected_s = _predict_step_s(probe.micro_batch_size, earlier) if timed else None
    if expected_s is None or not probe.step_times_s:
        return None
    step_s = min(probe.step_times_s)
    if step_s <= SPILL_FACTOR * expected_s:
        return None
    return (
        f"a step took {step_s / expected_s:.1f} times as long as smaller sizes predict, as when "
        "tensors spill to host memory"
    )


def _predict_step_s(size: int, earlier: Sequence[Probe]) -> float | None:
    """Return the longest step that the smaller sizes predict, None with fewer than two of them."""
    times: dict[int, float] = {}
    for probe in earlier:
        if probe.outcome == "fit" and probe.step_times_s and probe.micro_batch_size < size:
            step_s = min(probe.step_times_s)
            times[probe.micro_batch_size] = min(step_s, times.get(probe.micro_batch_size, step_s))
    if len(times) < 2:
        return None
    sizes = sorted(times)
    centre = sum(sizes) / len(sizes)
    centre_s = sum(times.values()) / len(sizes)
    spread = sum((each - centre) ** 2 for each in sizes)
    slope = sum((each - centre) * (times[each] - centre_s) for each in sizes) / spread
    affine_s = centre_s + max(0.0, slope) * (size - centre)
    return max(affine_s, times[sizes[-1]] * size / sizes[-1])
