"""The opening of a run on the user's own script: two starts tell what it is."""

import time

from advisor.engine.opening import ScriptTask
from advisor.engine.run import Run
from advisor.training.script.arguments import Filling
from advisor.training.script.facts import conclude_facts
from advisor.training.script.sight import ScriptSight, choose_other_filling, choose_own_filling


def open_script(run: Run) -> None:
    """Keep what the script is: started with its own batch, then with another that it is told.

    Raises:
        WorkloadError: It fails, takes no optimizer step, or does not listen to its placeholders.
    """
    workload = run.spec.workload
    own = _see(run, choose_own_filling(workload), "as it is")
    filling = choose_other_filling(workload, own)
    other = _see(run, filling, f"with batch {filling.batch_size}")
    facts = conclude_facts(workload, own, other)
    assert facts.script is not None
    run.keep_script(facts.script.script)
    run.keep_workload(facts)


def _see(run: Run, filling: Filling, how: str) -> ScriptSight:
    run.progress.stage(f"your script {how}", left_s=run.spec.limits.budget_s and run.left_s)
    task = ScriptTask(workload=run.spec.workload, filling=filling)
    started = time.monotonic()
    (sight,) = run.runner.run(task, timeout_s=run.left_s)
    start_s = time.monotonic() - started
    run.start_s = min(start_s, run.start_s or start_s)
    return sight
