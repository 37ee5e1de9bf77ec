"""One probe, and the machine alone."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from advisor.advice.data import SCENARIO
from advisor.device.data import Environment
from advisor.device.processor import read_processor_counters
from advisor.engine.command import execute
from advisor.engine.commands import ProbeSpec
from advisor.engine.opening import EnvironmentTask
from advisor.engine.progress import Progress
from advisor.engine.runner import COLD_START_S, Runner
from advisor.questions import RUN
from advisor.training.data import Variant
from advisor.variants.data import VARIANTS
from advisor.variants.stage import list_variants


def run_probe(
    spec: ProbeSpec,
    *,
    argv: Sequence[str],
    progress: Progress,
    save: Callable[[Any], None],
) -> Any:
    """Return the complete record of one probe."""
    own = Variant(precision=spec.workload.precision, compile=spec.workload.compile)
    asked = ((SCENARIO, spec.scenario), (VARIANTS, list_variants((own, *spec.variants))))
    return execute(RUN, spec, argv=argv, progress=progress, save=save, asked=asked)


def run_doctor(device: str) -> Environment:
    """Return what a worker sees of the device and the software, and what starting one costs."""
    with Runner(None) as runner:
        task = EnvironmentTask(device=device)
        runner.run(task, timeout_s=COLD_START_S)  # the first pays for the import of torch
        start = time.perf_counter()
        (environment,) = runner.run(task, timeout_s=COLD_START_S)
        elapsed_s = time.perf_counter() - start
    seen = environment
    counters = (*seen.counters, *read_processor_counters())
    return msgspec.structs.replace(seen, worker_start_s=elapsed_s, counters=counters)
