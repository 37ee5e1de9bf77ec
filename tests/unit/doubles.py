"""What stands in for workers and the terminal."""

import io
from pathlib import Path

from rich.console import Console

#: What reports print, letter by letter.
GOLDEN = Path(__file__).parents[1] / "golden"


class FakeRunner:
    """Answers tasks with a function of the task, and keeps the tasks."""

    def __init__(self, answer):
        self.answer = answer
        self.tasks = []

    def run(self, task, *, timeout_s, on_result=None):
        self.tasks.append(task)
        result = self.answer(task)
        if isinstance(result, Exception):
            raise result
        return (result,)


class StreamingRunner:
    """Streams results as a worker would, until it is stopped, then fails where told to."""

    def __init__(self, results, error=None):
        self.results, self.error = results, error
        self.tasks, self.timeouts_s = [], []

    def run(self, task, *, timeout_s, on_result=None):
        self.tasks.append(task)
        self.timeouts_s.append(timeout_s)
        for each in self.results:
            on_result(each)
        if self.error is not None:
            raise self.error
        return tuple(self.results)


class Notes:
    """Progress that keeps what it is told."""

    def __init__(self):
        self.notes = []

    def stage(self, name, *, left_s):
        pass

    def plan(self, text):
        pass

    def note(self, text):
        self.notes.append(text)


def text_of(write, *arguments, width=80, **options):
    """What `write` puts on a terminal without colours, spaces at the ends of lines left out."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, no_color=True, force_terminal=False)
    write(console, *arguments, **options)
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())
