"""The sharpness along a short training, where the user asks for it."""

from advisor.engine.run import Run
from advisor.engine.runner import WorkerDeathError, WorkerTimeoutError
from advisor.memory.plan import MEMORY
from advisor.noise.plan import explain_absence
from advisor.noise.stage import describe_trajectory, plan_trajectory
from advisor.sharpness.data import SharpnessTask
from advisor.sharpness.plan import choose_micro_batch_size

#: Share of the time left that the stage may take.
_BUDGET_FRACTION = 0.25


def run_sharpness(run: Run) -> None:
    """Measure the sharpness where it was asked for and real data allows it."""
    if not run.spec.limits.sharpness or explain_absence(run.facts) is not None or run.is_spent:
        return
    path = plan_trajectory(run, run.left_s * _BUDGET_FRACTION)
    size = choose_micro_batch_size(
        run.facts,
        run.of(MEMORY),
        path.micro_batch_size,
        batch_multiple=run.spec.limits.batch_multiple,
    )
    if size is None:
        return
    task = SharpnessTask(workload=run.spec.workload, trajectory=path, micro_batch_size=size)
    run.progress.stage(f"sharpness {describe_trajectory(path)}", left_s=run.left_s)
    try:
        run.runner.run(task, timeout_s=run.left_s, on_result=run.keep_sharpness)
    except WorkerTimeoutError:
        run.progress.note("sharpness: it took longer than the time left")
    except WorkerDeathError as death:  # as by the system, short of memory: the rest still stands
        run.progress.note(f"sharpness: {death.message}")
