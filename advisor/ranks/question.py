"""Several ranks: as many samples for each of 1, 2, 4 ... of them, in turns."""

import itertools
import time

from msgspec.structs import replace

from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.memory.plan import MEMORY
from advisor.ranks.data import RANK_PROBES, RankProbe
from advisor.ranks.plan import RANKS, list_numbers
from advisor.ranks.tell import tell_ranks
from advisor.throughput.stage import make_task
from advisor.training.data import Script

#: Turns in which every number is timed; with less there is no interval.
_TURNS = 3


def run_ranks(run: Run) -> None:
    """Time the script on fewer ranks beside all of them, while there is time."""
    facts, memory = run.facts, run.of(MEMORY)
    script = run.spec.workload.script
    if script is None or script.ranks < 2 or memory is None or run.is_spent:
        return
    size = min(facts.base_batch_size or script.parts, memory.max_micro_batch_size or script.parts)
    ends_s = time.monotonic() + run.share_s("ranks")
    numbers = list_numbers(script.ranks)
    with run.noting_ends("ranks"):
        for turn, number in itertools.product(range(_TURNS), numbers):
            if time.monotonic() > ends_s:
                return
            run.progress.stage(f"ranks: {number}", left_s=run.left_s)
            task = make_task(
                run,
                workload=replace(run.spec.workload, script=_take_fewer(script, number)),
                micro_batch_sizes=(size // script.ranks * number,),
                session=turn,
                rounds=1,
                budget_s=run.share_s("ranks") / (_TURNS * len(numbers)),
            )
            probes = run.runner.run(task, timeout_s=run.left_s)
            run.add(RANK_PROBES, *(RankProbe(ranks=number, turn=turn, probe=p) for p in probes))


def _take_fewer(script: Script, number: int) -> Script:
    """Return the script on so many ranks, each with its share of the size of all."""
    return replace(
        script,
        ranks=number,
        parts=script.parts // script.ranks * number,
        launch=() if script.per_node else ("--standalone", f"--nproc-per-node={number}"),
    )


QUESTION = Question(
    name="ranks",
    keys=(RANK_PROBES,),
    topics=(RANKS,),
    run=run_ranks,
    tell=tell_ranks,
    fails_alone=True,
)
