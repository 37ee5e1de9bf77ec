"""The file in which a real run notes what it saw of its gradients: one JSON object on each line.

A line has the squared norms of the gradients of a step, before clipping, in one of two forms:

    {"step": 10, "micro_batch_sizes": [32, 32, 16], "sqnorms": [2.1, 1.9, 3.0], "mean_sqnorm": 1.2}
    {"step": 10, "small_batch_size": 32, "small_sqnorm": 2.1, "large_batch_size": 256,
     "large_sqnorm": 1.2}

First: |m_k|² of the mean gradient of each micro-batch (of accumulation, or of a rank before the
all-reduce), and |ḡ|² of their mean weighted by size. Second: the mean gradients of a batch and of a
part of it, or of two batches. `loss` may be noted besides. The user's loop writes lines with
`encode_noise_line`; this module imports neither torch nor numpy.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from advisor.errors import UsageError
from advisor.noise.data import NoiseLogEntry

_FORMS = "The forms of a line are in docs/method.md, section 4."


class _MicroBatches(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the first form."""

    step: int
    micro_batch_sizes: tuple[float, ...]
    sqnorms: tuple[float, ...]
    mean_sqnorm: float
    loss: float | None = None


class _Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the second form."""

    step: int
    small_batch_size: float
    small_sqnorm: float
    large_batch_size: float
    large_sqnorm: float
    loss: float | None = None


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
        micro_batch_sizes: b_k, samples of each micro-batch of the step; at least two.
        sqnorms: |m_k|², squared norm of the mean gradient of each.
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
    _reduce(line)
    return msgspec.json.encode(line).decode() + "\n"


def read_noise_log(path: Path) -> tuple[NoiseLogEntry, ...]:
    """Return the steps of the log, blank lines left out.

    Raises:
        UsageError: The file cannot be read, is empty, or a line is in neither form; the line's
            number is in the message.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(
            f"cannot read the noise log {path}: {error.strerror}", next_step="Give another file."
        ) from error
    entries = tuple(_read_lines(path, lines))
    if not entries:
        raise UsageError(f"the noise log {path} has no line", next_step=_FORMS)
    return entries


def _read_lines(path: Path, lines: Sequence[bytes]) -> Iterator[NoiseLogEntry]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _reduce(_decode(line))
        except (msgspec.MsgspecError, ValueError) as error:
            raise UsageError(f"{path}, line {number}: {error}", next_step=_FORMS) from error


def _decode(line: bytes) -> _MicroBatches | _Pair:
    if b"small_sqnorm" in line:
        return msgspec.json.decode(line, type=_Pair)
    return msgspec.json.decode(line, type=_MicroBatches)


def _reduce(line: _MicroBatches | _Pair) -> NoiseLogEntry:
    """Return the sums of the line that the estimate needs.

    Raises:
        ValueError: The sizes or norms cannot be.
    """
    if isinstance(line, _Pair):
        samples, small = line.large_batch_size, line.small_batch_size
        if not 0 < small < samples:
            raise ValueError("small_batch_size must be above 0 and below large_batch_size")
        count, parts, mean = samples / small, line.small_sqnorm, line.large_sqnorm
    else:
        samples, count = math.fsum(line.micro_batch_sizes), float(len(line.micro_batch_sizes))
        if count < 2 or len(line.sqnorms) != count:
            raise ValueError("micro_batch_sizes and sqnorms must be as long, and two at least")
        if min(line.micro_batch_sizes) <= 0:
            raise ValueError("micro_batch_sizes must be above 0")
        weighted = zip(line.micro_batch_sizes, line.sqnorms, strict=True)
        parts, mean = math.fsum(b * norm for b, norm in weighted) / samples, line.mean_sqnorm
    norms = (*line.sqnorms, mean) if isinstance(line, _MicroBatches) else (parts, mean)
    if not all(math.isfinite(norm) and norm >= 0.0 for norm in norms):
        raise ValueError("squared norms must be finite and not negative")
    return NoiseLogEntry(
        at_step=line.step,
        samples=samples,
        micro_batches=count,
        micro_batch_sqnorm=parts,
        mean_sqnorm=mean,
        loss=line.loss,
    )
