"""What ends a start of the script at once: nothing is done that it would do in the end."""

from typing import NoReturn

from advisor.training.script.word import WordFile


class Ending:
    """Takes what was seen of the script, and ends its process.

    Attributes:
        goes_on: Whether the script goes on once enough was seen, as on all ranks but the first.
        words: What passes words among ranks; None where there is one alone.
    """

    goes_on = False
    words: WordFile | None = None

    def __call__(self, result: object) -> None:
        """Send a result."""

    def say_done(self) -> None:
        """Say that all results were sent, where the process goes on."""

    def note_steps(self, steps: int) -> None:
        """Tell how many steps were taken, where somebody watches for a rank that hangs."""

    def leave(self) -> NoReturn:
        """Say that all results were sent, and end the process as it stands."""
        raise NotImplementedError

    def stop(self) -> NoReturn:
        """The same, where the script cannot go on."""
        self.leave()

    def fail(self, error: BaseException) -> NoReturn:
        """Say what went wrong, and end the process as it stands."""
        raise NotImplementedError
