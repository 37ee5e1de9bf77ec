"""Does the advised size hold over a longer run?"""

from collections.abc import Callable

from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.rate.data import Advised
from advisor.soak.data import SOAKS
from advisor.soak.plan import SOAK
from advisor.soak.stage import run_soak
from advisor.soak.tell import tell_soak


def make_question(find_advised: Callable[[Run], Advised | None]) -> Question:
    """Return the question; the advice stands above it."""
    return Question(
        name="soak",
        keys=(SOAKS,),
        topics=(SOAK,),
        run=lambda run: run_soak(run, lambda: find_advised(run)),
        tell=tell_soak,
    )
