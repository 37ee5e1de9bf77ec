"""The file in which a real run notes what it saw of its gradients: one JSON object on each line.

The forms of a line are in docs/method.md, section 4. The user's loop writes lines with
`encode_noise_line` or has a monitor write them; torch is not imported for it.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from advisor.errors import UsageError
from advisor.figures import Count, Figure
from advisor.noise.data import Estimator, NoiseLogEntry

_FORMS = "The forms of a line are in docs/method.md, section 4."


class NoiseLine(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What every line may say of its step."""

    #: Optimizer steps taken before.
    step: Count
    loss: Figure | None = None
    #: Of the first group that trains, and the optimizer's class.
    learning_rate: Figure | None = None
    optimizer: str | None = None
    #: What the gradients are of; None where the user's own loop wrote the line.
    estimator: Estimator | None = None

    def sum_up(self) -> NoiseLogEntry:
        """Return the figures that the noise scale is told from; ValueError where they are none."""
        names = ("samples", "micro_batches", "micro_batch_sqnorm", "mean_sqnorm")
        figures = dict(zip(names, self._read(), strict=True))
        try:
            return msgspec.convert(
                {"at_step": self.step, "loss": self.loss, **figures}, NoiseLogEntry
            )
        except msgspec.ValidationError as error:
            raise ValueError(f"no such step was measured: {error}") from error

    def _read(self) -> tuple[float, float, float, float]:
        raise NotImplementedError


class _MicroBatches(NoiseLine, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The micro-batches of a step, of accumulation or of the ranks, and their mean."""

    micro_batch_sizes: tuple[Figure, ...]
    sqnorms: tuple[Figure, ...]
    mean_sqnorm: Figure

    def _read(self) -> tuple[float, float, float, float]:
        sizes, sqnorms = self.micro_batch_sizes, self.sqnorms
        if len(sizes) < 2 or len(sqnorms) != len(sizes):
            raise ValueError("micro_batch_sizes and sqnorms must be as long, and two at least")
        if min(sizes) <= 0:
            raise ValueError("micro_batch_sizes must be above 0")
        _check(*sqnorms, self.mean_sqnorm)
        samples = math.fsum(sizes)
        weighted = math.fsum(map(math.prod, zip(sizes, sqnorms, strict=True)))
        return samples, float(len(sizes)), weighted / samples, self.mean_sqnorm


class _Pair(NoiseLine, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A batch, and a part of it or a smaller one."""

    small_batch_size: Figure
    small_sqnorm: Figure
    large_batch_size: Figure
    large_sqnorm: Figure

    def _read(self) -> tuple[float, float, float, float]:
        small, large = self.small_batch_size, self.large_batch_size
        if small <= 0 or large / small <= 1.0:
            raise ValueError("small_batch_size must be above 0 and below large_batch_size")
        _check(self.small_sqnorm, self.large_sqnorm)
        return large, large / small, self.small_sqnorm, self.large_sqnorm


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
    """Return one line for the log, with its line end; ValueError where it is of no possible step.

    The sizes are the samples of each micro-batch, two at least, with |m_k|² of the mean gradient of
    each; `mean_sqnorm` is |Σ b_k·m_k/n|², of the gradient that the optimizer gets, before clipping.
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


def encode_entry(
    entry: NoiseLogEntry, *, estimator: Estimator, learning_rate: float | None, optimizer: str
) -> str:
    """Return the line of a step that a monitor has summed up, as a pair, with its line end."""
    line = _Pair(
        step=entry.at_step,
        small_batch_size=entry.samples / entry.micro_batches,
        small_sqnorm=entry.micro_batch_sqnorm,
        large_batch_size=entry.samples,
        large_sqnorm=entry.mean_sqnorm,
        loss=entry.loss,
        learning_rate=learning_rate,
        optimizer=optimizer,
        estimator=estimator,
    )
    return msgspec.json.encode(line).decode() + "\n"


def read_noise_log(path: Path) -> tuple[NoiseLogEntry, ...]:
    """Return the steps of the log that count; UsageError where there are none, or not all read."""
    log = NoiseLog(path)
    if not log.read(is_written=True):
        raise UsageError(f"the noise log {path} has no line", next_step=_FORMS)
    return select_entries(log.lines)


def select_entries(lines: Sequence[tuple[NoiseLine, NoiseLogEntry]]) -> tuple[NoiseLogEntry, ...]:
    """Return the figures told from what the last line's are: others are of another noise scale."""
    last, _ = lines[-1]
    return tuple(entry for line, entry in lines if line.estimator == last.estimator)


class NoiseLog:
    """Reads what a log has gained in `lines`; begins anew where a shorter one replaced it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = self._count = 0
        self.lines: list[tuple[NoiseLine, NoiseLogEntry]] = []

    def read(self, *, is_written: bool = False) -> bool:
        """Read on; return whether there was anything new. UsageError where it cannot be read.

        While it is being written there may be none yet, and a last line without its end waits.
        """
        try:
            with self._path.open("rb") as file:
                if self._offset:  # a pipe has no places
                    if file.seek(0, 2) < self._offset:
                        self._offset = self._count = 0
                        self.lines.clear()
                    file.seek(self._offset)
                text = file.read()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not is_written:
                return False
            raise UsageError(
                f"cannot read the noise log {self._path}: {error.strerror}",
                next_step="Give another file.",
            ) from error
        text = text if is_written else text[: text.rfind(b"\n") + 1]
        new = parse_noise_lines(text, self._path, first=self._count + 1)
        self.lines += new
        self._offset += len(text)
        self._count += text.count(b"\n")
        return bool(new)


def parse_noise_lines(
    text: bytes, path: Path, first: int = 1
) -> list[tuple[NoiseLine, NoiseLogEntry]]:
    """Return the lines of a part of the log that begins with the line of that number, summed up."""
    lines = list[tuple[NoiseLine, NoiseLogEntry]]()
    for number, line in enumerate(text.splitlines(), start=first):
        kind: type[NoiseLine] = _Pair if b"small_sqnorm" in line else _MicroBatches
        if not line.strip():
            continue
        try:
            decoded = msgspec.json.decode(line, type=kind)
            lines.append((decoded, decoded.sum_up()))
        except (msgspec.MsgspecError, ValueError) as error:
            raise UsageError(f"{path}, line {number}: {error}", next_step=_FORMS) from error
    return lines
