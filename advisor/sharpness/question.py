"""How sharp is the loss? Along a short training, where the user asks for it."""

from functools import partial

from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.memory.plan import MEMORY
from advisor.noise.plan import explain_absence
from advisor.noise.question import follow, plan_trajectory
from advisor.sharpness.data import SHARPNESS, SharpnessTask
from advisor.sharpness.plan import SHARPNESS_TOPIC, choose_micro_batch_size
from advisor.sharpness.tell import tell_sharpness

#: Along the trajectory.
_POINTS = 6


def run_sharpness(run: Run) -> None:
    """Measure the sharpness where it was asked for and real data allows it."""
    facts, limits = run.facts, run.spec.limits
    if not limits.sharpness or explain_absence(facts) is not None or run.is_spent:
        return
    path = plan_trajectory(run, run.share_s("sharpness"), points=_POINTS)
    size = choose_micro_batch_size(
        facts, run.of(MEMORY), path.micro_batch_size, batch_multiple=limits.batch_multiple
    )
    if size is None:
        return
    task = SharpnessTask(workload=run.spec.workload, trajectory=path, micro_batch_size=size)
    follow(run, "sharpness", task, path, partial(run.add, SHARPNESS))


QUESTION = Question(
    name="sharpness",
    keys=(SHARPNESS,),
    topics=(SHARPNESS_TOPIC,),
    run=run_sharpness,
    tell=tell_sharpness,
    fails_alone=True,
)
