"""Output for consoles that cannot show every character."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable
from rich.segment import Segment

#: What stands in for each character of the report outside ASCII.
ASCII_FORMS: dict[str, str | int | None] = {
    "×": "x",
    "█": "#",
    "▌": None,
    "✓": "+",
    "→": ">",
    "±": "+/-",
    "≥": ">=",
    "≤": "<=",
    "−": "-",
    "–": "-",
    "·": "*",
    "√": "sqrt",
    "η": "eta",
    "κ": "kappa",
    "φ": "phi",
    "µ": "u",
    "²": "^2",
}


#: A terminal obeys these, and texts may come from a file that others wrote.
_CONTROLS = dict.fromkeys({*range(32), *range(127, 160)} - {9, 10}, "\N{REPLACEMENT CHARACTER}")


def hide_controls(text: str) -> str:
    """Return the text without what would tell a terminal to do something."""
    return text.translate(_CONTROLS)


@dataclass(frozen=True, slots=True)
class Harmless:
    """What is drawn, without what its texts would tell the terminal to do."""

    drawn: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.drawn, options):
            text = segment.text if segment.control else hide_controls(segment.text)
            yield segment._replace(text=text)


def write_encodable(console: Console, renderable: ConsoleRenderable) -> None:
    """Print `renderable`, in ASCII where the console's encoding is not a Unicode one."""
    harmless = Harmless(renderable)
    if not console.options.ascii_only:
        console.print(harmless, crop=False)
        return
    with console.capture() as capture:
        console.print(harmless, crop=False)
    text = capture.get().translate(str.maketrans(ASCII_FORMS))
    console.file.write(text.encode("ascii", errors="replace").decode("ascii"))
