"""Output for consoles that cannot show every character."""

from rich.console import Console, ConsoleRenderable

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


def write_encodable(console: Console, renderable: ConsoleRenderable) -> None:
    """Print `renderable`, in ASCII where the console's encoding is not a Unicode one."""
    if not console.options.ascii_only:
        console.print(renderable, crop=False)
        return
    with console.capture() as capture:
        console.print(renderable, crop=False)
    text = capture.get().translate(str.maketrans(ASCII_FORMS))
    console.file.write(text.encode("ascii", errors="replace").decode("ascii"))
