"""The noise of the gradient, as the registry has it."""

from advisor.engine.question import Question
from advisor.noise.data import NOISE_BATCHES, NOISE_LOG
from advisor.noise.plan import NOISE
from advisor.noise.stage import check_noise, run_noise

QUESTION = Question(
    name="noise",
    keys=(NOISE_BATCHES, NOISE_LOG),
    topics=(NOISE,),
    check=check_noise,
    run=run_noise,
)
