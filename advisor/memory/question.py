"""The largest batch that fits, as the registry has it."""

from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.memory.data import PROBES
from advisor.memory.given_batch import refuse_impossible_batch, refuse_oversized_batch
from advisor.memory.plan import MEMORY
from advisor.memory.stage import run_memory
from advisor.predict.data import PREDICTED_MEMORY, STEP_COST


def run_search(run: Run) -> None:
    """Find the largest micro-batch, and see that a batch that was given can be made of such."""
    run_memory(run)
    refuse_oversized_batch(run)


QUESTION = Question(
    name="memory",
    keys=(PROBES, PREDICTED_MEMORY, STEP_COST),
    topics=(MEMORY,),
    check=refuse_impossible_batch,
    run=run_search,
)
