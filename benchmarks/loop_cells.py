"""The cells of the benchmark: which tasks meet which loops, schedules and base rates."""

import itertools
from typing import NamedTuple

from loops import LOOPS
from training_tasks import list_tasks

SETTINGS = (
    ("constant", "tuned"),
    ("cosine", "quarter"),
    ("constant", "quarter"),
    ("cosine", "tuned"),
)
REPEATS = 5
REPEATED = (
    "digits/loader/constant/own",
    "digits/memory/constant/own",
    "char_lm/loader/constant/tuned",
    "tabular/evaluation/cosine/quarter",
)


class Cell(NamedTuple):
    """One case; several repeats of one differ in the number alone."""

    task: str
    loop: str
    schedule: str
    base: str
    is_told: bool = True
    repeat: int = 0

    def __str__(self) -> str:
        loop = self.loop if self.is_told else f"{self.loop} untold"
        number = f"#{self.repeat}" if self.repeat else ""
        return f"{self.task}/{loop}/{self.schedule}/{self.base}{number}"

    @property
    def grid(self) -> str:
        """Return the key of the tuned grid."""
        return f"{self.task}/{self.schedule}/{self.base}"


def list_cells(design: str) -> list[Cell]:
    """Return the cells of a design, those that the tool is not told of last."""
    tasks = list_tasks()
    if design == "repeats":
        return [
            Cell(*name.split("/"), repeat=number + 1)  # type: ignore[arg-type]
            for number in range(REPEATS)
            for name in REPEATED
        ]
    if design == "full":
        found = [Cell(*a, *b) for a in itertools.product(tasks, LOOPS) for b in SETTINGS]
    else:
        found = [
            Cell(task, loop, *SETTINGS[(i + j) % len(SETTINGS)])
            for j, loop in enumerate(LOOPS)
            for i, task in enumerate(tasks)
        ]
    return found + [each._replace(is_told=False) for each in found if each.loop == "evaluation"]
