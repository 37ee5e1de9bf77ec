"""Which micro-batch is the largest that fits?"""

from advisor.engine.budget import TIME_PLAN, describe_plan
from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.memory.data import PROBES
from advisor.memory.given_batch import refuse_impossible_batch, refuse_oversized_batch
from advisor.memory.plan import MEMORY
from advisor.memory.stage import measure_base, run_memory, search_on
from advisor.memory.tell import tell_memory
from advisor.predict.data import PREDICTED_MEMORY, STEP_COST


def _run(run: Run) -> None:
    run.progress.plan(describe_plan(run.plan(measure_base(run))))
    run_memory(run)
    refuse_oversized_batch(run)


QUESTION = Question(
    name="memory",
    keys=(TIME_PLAN, PROBES, PREDICTED_MEMORY, STEP_COST),
    topics=(MEMORY,),
    check=refuse_impossible_batch,
    run=_run,
    more=search_on,
    tell=tell_memory,
)
