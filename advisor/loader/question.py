"""Does training wait for its data?"""

from advisor.engine.question import Question
from advisor.loader.data import LOADER_TIMINGS, LOOP_TIMINGS
from advisor.loader.plan import LOADER
from advisor.loader.stage import check_epoch, run_loader
from advisor.loader.tell import brief_loader, tell_loader

QUESTION = Question(
    name="loader",
    keys=(LOOP_TIMINGS, LOADER_TIMINGS),
    topics=(LOADER,),
    check=check_epoch,
    run=run_loader,
    tell=tell_loader,
    brief=brief_loader,
    fails_alone=True,
)
