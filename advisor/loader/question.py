"""Does training wait for its data?"""

from collections.abc import Callable

from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.loader.data import LOADER_TIMINGS
from advisor.loader.plan import LOADER
from advisor.loader.stage import check_epoch, run_loader
from advisor.loader.tell import tell_loader


def make_question(find_size: Callable[[Run], int | None]) -> Question:
    """Return the question; the advice, which names the micro-batch, stands above it."""
    return Question(
        name="loader",
        keys=(LOADER_TIMINGS,),
        topics=(LOADER,),
        check=check_epoch,
        run=lambda run: run_loader(run, lambda: find_size(run)),
        tell=tell_loader,
    )
