"""Which micro-batch is the largest that fits?"""

from advisor.engine.budget import TIME_PLAN, describe_plan
from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.memory.data import PROBES
from advisor.memory.given_batch import refuse_impossible_batch, refuse_oversized_batch
from advisor.memory.plan import MEMORY
from advisor.memory.stage import measure_base, run_memory, search_on
from advisor.memory.tell import brief_memory, tell_memory
from advisor.predict.data import PREDICTED_MEMORY, STEP_COST

#: A plan that the search made shorter than this share of the first is told again.
_SHORTER_FRACTION = 0.7


def _run(run: Run) -> None:
    plan = run.plan(measure_base(run))
    run.progress.plan(describe_plan(plan))
    run_memory(run)
    again = run.plan(measure_base(run), first="throughput")
    if again.needed_s < _SHORTER_FRACTION * plan.needed_s:
        run.progress.plan(describe_plan(again))
    refuse_oversized_batch(run)


QUESTION = Question(
    name="memory",
    keys=(TIME_PLAN, PROBES, PREDICTED_MEMORY, STEP_COST),
    topics=(MEMORY,),
    check=refuse_impossible_batch,
    run=_run,
    more=search_on,
    tell=tell_memory,
    brief=brief_memory,
)
