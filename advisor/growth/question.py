"""Whether a batch that grows saves time; told with the advice, which proposes it."""

from collections.abc import Callable

from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.growth.data import GROWTH_BRANCHES, UNGROWN, Growth
from advisor.growth.stage import continue_growth


def make_question(find_open: Callable[[Run], Growth | None]) -> Question:
    """Return the question; the advice stands above it."""
    return Question(
        name="schedule",
        keys=(GROWTH_BRANCHES, UNGROWN),
        more=lambda run: continue_growth(run, find_open),
        fails_alone=True,
    )
