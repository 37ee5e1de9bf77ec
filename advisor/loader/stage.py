"""The loader stage: does training wait for its data, and how many workers would end that?"""

from advisor.engine.budget import LOADER_END_OF_LEFT, LOADER_OF_LEFT
from advisor.engine.run import Run
from advisor.errors import UsageError
from advisor.loader.data import LOADER_TIMINGS, LoaderTask
from advisor.loader.plan import list_sizes
from advisor.memory.plan import MEMORY


def check_epoch(run: Run) -> None:
    """Raise UsageError where an epoch has a cost and no length."""
    if run.spec.limits.epoch_overhead_s and run.facts.dataset_size is None:
        raise UsageError(
            "--epoch-overhead needs a dataset whose length is known",
            next_step="Give the dataset a __len__, or leave --epoch-overhead out.",
        )


def run_loader(run: Run) -> None:
    """Time the user's loader at the base batch and another, where there is real data to load.

    It comes before the advice, since what a step takes in the user's loop decides.
    """
    if not run.facts.has_dataset or run.spec.limits.no_loader:
        return
    memory = run.of(MEMORY)
    multiple = run.spec.limits.batch_multiple
    largest = None if memory is None else memory.max_micro_batch_size
    size, *others = list_sizes(run.facts, largest, batch_multiple=multiple) or (None,)
    if size is None or run.is_spent:
        run.progress.note("loader: no time left to measure it")
        return
    run.progress.stage(f"loader: micro-batch {size}", left_s=run.left_s)
    task = LoaderTask(
        workload=run.spec.workload,
        micro_batch_size=size,
        other_sizes=tuple(others),
        budget_s=max(run.share_s("loader"), LOADER_OF_LEFT * run.unspent_s),
    )
    with run.noting_ends("loader"):
        run.runner.run(
            task,
            timeout_s=LOADER_END_OF_LEFT * run.left_s,
            on_result=lambda timing: run.add(LOADER_TIMINGS, timing),
        )
