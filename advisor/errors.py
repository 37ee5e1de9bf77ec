"""Every way a command can end badly, each with its exit code and the reader's next step."""

import contextlib
from typing import ClassVar


class AdvisorError(Exception):
    """A failure the reader can act on: what happened, where, and in one sentence what to do next.

    The traceback is the user's own, from the first line of the user's code.
    """

    exit_code: ClassVar[int] = 70

    def __init__(
        self, message: str, *, next_step: str | None = None, traceback: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.traceback = traceback


class UsageError(AdvisorError):
    """The command line, an environment variable or pyproject.toml asks for something impossible."""

    exit_code = 2


class RegressionError(AdvisorError):
    """What was measured is worse than it was."""

    exit_code = 1


class NoBaselineError(AdvisorError):
    """There is nothing of the same setting to compare with."""

    exit_code = 4


class InconclusiveError(AdvisorError):
    """The measurement ran but does not support an answer."""

    exit_code = 3


class WorkloadError(AdvisorError):
    """The user's model file failed."""

    exit_code = 5


class GivenFileError(WorkloadError):
    """A file that the command line names does not go with the model file: no stage fails alone."""


class LostNodeError(AdvisorError):
    """One of several nodes is not there: the command ends, whichever stage it is in."""

    exit_code = WorkloadError.exit_code


class SampleError(WorkloadError):
    """One sample of the data fails, whatever batch it is in."""


class DeviceCallError(WorkloadError):
    """A call to the device failed in the user's code: a fault of that code, or a lost device."""


class DeviceError(AdvisorError):
    """The device does not exist, or not even the smallest batch fits on it."""

    exit_code = 6


class InternalError(AdvisorError):
    """A fault of this program."""

    exit_code = 70


def note_place(error: BaseException, what: str, next_step: str | None = None) -> None:
    """Have an error that came out of the user's code say where; the innermost place stands."""
    if not isinstance(error, AdvisorError) and place_of(error) is None:
        with contextlib.suppress(Exception):  # an exception that takes no attribute
            error.bsadvisor_place = (what, next_step)  # type: ignore[attr-defined]


def place_of(error: BaseException) -> tuple[str, str | None] | None:
    """Return what of the user's code the error came out of, and the next step; None if unknown."""
    place: tuple[str, str | None] | None = getattr(error, "bsadvisor_place", None)
    return place


def shorten(error: BaseException, most: int = 160) -> str:
    """Return the error's text in one line of at most so many characters, else its type's name."""
    return clean(" ".join(str(error).split()))[:most] or type(error).__name__


def clean(text: str) -> str:
    """Return the text as it can be sent and printed: without lone surrogates."""
    return text.encode(errors="replace").decode()
