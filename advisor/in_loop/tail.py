"""A log that grows: its lines so far, and those that come."""

from pathlib import Path

from advisor.errors import UsageError
from advisor.noise.data import NoiseLogEntry
from advisor.noise.log import NoiseLine, parse_noise_lines


class LogTail:
    """Reads what a log has gained; begins anew where it was replaced by a shorter one.

    A last line without its end is still being written and waits.

    Attributes:
        lines: So far, each with its figures.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = self._count = 0
        self.lines: list[tuple[NoiseLine, NoiseLogEntry]] = []

    def read(self) -> bool:
        """Read on; return whether there was anything new.

        Raises:
            FileNotFoundError: There is no log yet.
            UsageError: It cannot be read, or a line is in no form of a noise log.
        """
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:
                    self._offset = self._count = 0
                    self.lines.clear()
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UsageError(
                f"cannot read the noise log {self._path}: {error.strerror}",
                next_step="Give another file.",
            ) from error
        text = text[: text.rfind(b"\n") + 1]
        new = parse_noise_lines(text, self._path, first=self._count + 1)
        self.lines += new
        self._offset += len(text)
        self._count += text.count(b"\n")
        return bool(new)
