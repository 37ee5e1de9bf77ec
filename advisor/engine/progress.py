"""What the run tells whoever watches."""


class Progress:
    """Receives the stages of a run as they begin; one that inherits shows what it is told."""

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Begin a stage; `left_s` is the most that the whole run may still take."""

    def plan(self, text: str) -> None:
        """Tell how long the run will take, in one line that stays."""

    def note(self, text: str) -> None:
        """Tell one thing that happened, in one line."""
