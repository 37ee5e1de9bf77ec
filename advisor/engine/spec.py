"""What the user asks of a command, and the memory that follows on a device."""

from typing import Literal

import msgspec

from advisor.device.data import Environment
from advisor.errors import DeviceError, UsageError
from advisor.figures import Bytes, Count, Duration, Size
from advisor.training.data import WorkloadSpec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a command may use, and what it is to keep to."""

    #: Wall clock for the whole command; None: what the model needs.
    budget_s: Duration | None = None
    #: Memory that training may take, and what stays free below it; None: the device's defaults.
    memory_limit_bytes: Bytes | None = None
    headroom_bytes: Bytes | None = None
    #: The largest size worth trying; None: no such cap.
    max_micro_batch_size: Size | None = None
    #: Only multiples of this size are tried.
    batch_multiple: Size = 1
    #: The batch to advise on; None leaves the choice to the measurements.
    global_batch_size: Size | None = None
    #: Optimizer steps along which the noise is measured; None: as many as the budget allows.
    noise_steps: Count | None = None
    #: Files of saved weights at which the noise is measured, instead of along a training run.
    checkpoints: tuple[str, ...] = ()
    #: File with what a real run measured of its gradients; nothing is measured then.
    noise_log: str | None = None
    #: In what the noise scale is told; batch sizes are samples all the same.
    sample_unit: Literal["sample", "token"] = "sample"
    #: Whether the sharpness of the loss is measured too.
    sharpness: bool = False
    #: Whether the advised size must leave room for a copy of the training state.
    reserve: bool = False
    #: Optimizer steps that the user trains at the base batch; None: not said.
    train_steps: Count | None = None
    #: Whether the user's batches are in memory, so that no DataLoader costs time.
    no_loader: bool = False
    #: What each pass over the dataset takes besides its steps: evaluation, a checkpoint.
    epoch_overhead_s: Duration = 0.0

    def cap(self, most: int, dataset_size: int | None) -> int:
        """Return the largest size that these and the dataset allow, `most` where neither does."""
        return min(most, self.max_micro_batch_size or most, dataset_size or most)


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What every command is asked; what one alone is asked stands in slots of its record."""

    workload: WorkloadSpec
    limits: Limits = Limits()


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
