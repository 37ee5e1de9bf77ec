"""The loader stage: does training wait for its data, and how many workers would end that?"""

from advisor.advice.plan import ADVICE
from advisor.engine.run import Run
from advisor.engine.runner import WorkerDeathError, WorkerTimeoutError
from advisor.loader.data import LOADER_TIMINGS, LoaderTask

#: Share of the budget, and of the time left, that the stage plans with.
_BUDGET_FRACTION = 0.1
_LEFT_FRACTION = 0.25
#: Share of the time left after which it is given up.
_MOST_LEFT_FRACTION = 0.5


def run_loader(run: Run) -> None:
    """Time the user's loader at the advised micro-batch, where there is real data to load.

    It comes before the trial, which takes nearly all of the time left: the trial settles the rate,
    not the batch.
    """
    if not run.facts.has_dataset:
        return
    advice = run.of(ADVICE)
    if advice is None or run.is_spent:
        run.progress.note("loader: no time left to measure it")
        return
    run.progress.stage(f"loader: micro-batch {advice.micro_batch_size}", left_s=run.left_s)
    task = LoaderTask(
        workload=run.spec.workload,
        micro_batch_size=advice.micro_batch_size,
        budget_s=min(_BUDGET_FRACTION * run.spec.limits.budget_s, _LEFT_FRACTION * run.left_s),
    )
    try:
        run.runner.run(
            task,
            timeout_s=_MOST_LEFT_FRACTION * run.left_s,
            on_result=lambda timing: run.add(LOADER_TIMINGS, timing),
        )
    except WorkerTimeoutError:
        run.progress.note("loader: it took longer than the time left")
    except WorkerDeathError as death:
        run.progress.note(f"loader: {death.message}")
