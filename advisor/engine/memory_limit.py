"""The memory that training may take: what is asked, or the device's default."""

from advisor.device.data import Environment
from advisor.engine.spec import Spec
from advisor.errors import DeviceError, UsageError

#: Share of the available CPU memory that training may take: the rest keeps the machine usable.
_CPU_FRACTION = 0.8
#: Kept free on a GPU: the driver's own growth and a neighbour's small allocations.
_GPU_HEADROOM_BYTES = 512 << 20


def resolve_limit(spec: Spec, environment: Environment) -> tuple[int, int]:
    """Return the memory limit and the headroom in bytes, the device's defaults filled in.

    Raises:
        DeviceError: The device has nothing free.
        UsageError: The limit leaves nothing, or is more than there is.
    """
    device = environment.device
    limit, headroom = spec.limits.memory_limit_bytes, spec.limits.headroom_bytes
    if headroom is None:
        headroom = _GPU_HEADROOM_BYTES if device.kind == "cuda" and limit is None else 0
    if limit is None:
        fraction = _CPU_FRACTION if device.kind == "cpu" else 1.0
        limit = int(device.available_bytes * fraction)
        if limit <= headroom:
            raise DeviceError(
                f"only {limit / 2**20:.0f} MiB are free on {device.name}",
                next_step="Free memory on the device, or give a smaller --headroom.",
            )
    if limit > device.available_bytes:
        raise UsageError(
            f"--memory-limit asks for {limit / 2**30:.1f} GiB; {device.name} has "
            f"{device.available_bytes / 2**30:.1f} GiB free",
            next_step="Give a limit below that, or none.",
        )
    if limit <= headroom:
        raise UsageError(
            "--headroom leaves nothing of --memory-limit", next_step="Give a smaller --headroom."
        )
    return limit, headroom
