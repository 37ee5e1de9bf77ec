"""The file in which a real run notes what it saw of its gradients: one JSON object on each line.

The forms of a line are in docs/method.md, section 4. The user's loop writes lines with
`encode_noise_line`; this module imports neither torch nor numpy.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from advisor.errors import UsageError
from advisor.noise.data import NoiseLogEntry

_FORMS = "The forms of a line are in docs/method.md, section 4."


class _MicroBatches(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The micro-batches of a step, of accumulation or of the ranks, and their mean."""

    step: int
    micro_batch_sizes: tuple[float, ...]
    sqnorms: tuple[float, ...]
    mean_sqnorm: float
    loss: float | None = None

    def sum_up(self) -> NoiseLogEntry:
        sizes, sqnorms = self.micro_batch_sizes, self.sqnorms
        if len(sizes) < 2 or len(sqnorms) != len(sizes):
            raise ValueError("micro_batch_sizes and sqnorms must be as long, and two at least")
        if min(sizes) <= 0:
            raise ValueError("micro_batch_sizes must be above 0")
        _check(*sqnorms, self.mean_sqnorm)
        samples = math.fsum(sizes)
        return NoiseLogEntry(
            at_step=self.step,
            samples=samples,
            micro_batches=float(len(sizes)),
            micro_batch_sqnorm=math.fsum(map(math.prod, zip(sizes, sqnorms, strict=True)))
            / samples,
            mean_sqnorm=self.mean_sqnorm,
            loss=self.loss,
        )


class _Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A batch, and a part of it or a smaller one."""

    step: int
    small_batch_size: float
    small_sqnorm: float
    large_batch_size: float
    large_sqnorm: float
    loss: float | None = None

    def sum_up(self) -> NoiseLogEntry:
        if not 0 < self.small_batch_size < self.large_batch_size:
            raise ValueError("small_batch_size must be above 0 and below large_batch_size")
        _check(self.small_sqnorm, self.large_sqnorm)
        return NoiseLogEntry(
            at_step=self.step,
            samples=self.large_batch_size,
            micro_batches=self.large_batch_size / self.small_batch_size,
            micro_batch_sqnorm=self.small_sqnorm,
            mean_sqnorm=self.large_sqnorm,
            loss=self.loss,
        )


def _check(*sqnorms: float) -> None:
    if not all(math.isfinite(sqnorm) and sqnorm >= 0.0 for sqnorm in sqnorms):
        raise ValueError("squared norms must be finite and not negative")


def encode_noise_line(
    step: int,
    *,
    micro_batch_sizes: Sequence[int],
    sqnorms: Sequence[float],
    mean_sqnorm: float,
    loss: float | None = None,
) -> str:
    """Return one line for the log, with its line end.

    Args:
        step: Optimizer steps taken before.
        micro_batch_sizes: b_k, samples of each micro-batch; at least two.
        sqnorms: |m_k|², of the mean gradient of each.
        mean_sqnorm: |Σ b_k·m_k/n|², of the gradient that the optimizer gets, before clipping.
        loss: Of the step.

    Raises:
        ValueError: What is given is no possible step.
    """
    line = _MicroBatches(
        step=step,
        micro_batch_sizes=tuple(micro_batch_sizes),
        sqnorms=tuple(sqnorms),
        mean_sqnorm=mean_sqnorm,
        loss=loss,
    )
    line.sum_up()
    return msgspec.json.encode(line).decode() + "\n"


def read_noise_log(path: Path) -> tuple[NoiseLogEntry, ...]:
    """Return the steps of the log, blank lines left out.

    Raises:
        UsageError: The file cannot be read, is empty, or a line is in neither form.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(
            f"cannot read the noise log {path}: {error.strerror}", next_step="Give another file."
        ) from error
    entries = []
    for number, line in enumerate(lines, start=1):
        kind: type[_Pair | _MicroBatches] = _Pair if b"small_sqnorm" in line else _MicroBatches
        try:
            entries += [msgspec.json.decode(line, type=kind).sum_up()] if line.strip() else []
        except (msgspec.MsgspecError, ValueError) as error:
            raise UsageError(f"{path}, line {number}: {error}", next_step=_FORMS) from error
    if not entries:
        raise UsageError(f"the noise log {path} has no line", next_step=_FORMS)
    return tuple(entries)
