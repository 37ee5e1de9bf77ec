"""What would lower the peak, as the registry has it."""

from advisor.engine.question import Question
from advisor.memory_savings.plan import MEMORY_SAVINGS
from advisor.memory_savings.stage import run_memory_savings
from advisor.predict.data import PEAK, WHAT_IFS

QUESTION = Question(
    name="memory savings",
    keys=(PEAK, WHAT_IFS),
    topics=(MEMORY_SAVINGS,),
    run=run_memory_savings,
)
