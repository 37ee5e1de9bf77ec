"""Sessions that nothing ran: a training of a known speed, memory and number of operators."""

import contextlib

import msgspec

from advisor.device.data import Telemetry
from advisor.engine.record import open_record
from advisor.engine.run import Run
from advisor.gate.data import StepCount
from advisor.memory.data import Probe
from tests.unit.samples import ENVIRONMENT, make_facts

#: Session by session, what of a calm machine's speed is its own.
_RIPPLE = (1.0, 1.001, 0.999, 1.0005, 0.9995)


class Training:
    """What the next commands see.

    Attributes:
        step_s, peak_bytes, operators: Of the training; bytes at batch 1.
        environment: The machine's.
        dies_at: The session at which something is raised, and what.
    """

    def __init__(self):
        self.step_s, self.peak_bytes, self.operators = 0.1, 1 << 20, 113
        self.environment = ENVIRONMENT
        self.facts = make_facts()
        self.dies_at = None
        self.tasks = []

    def run(self, task, *, timeout_s, on_result=None):
        self.tasks.append(task)
        size = getattr(task, "micro_batch_size", None)
        if size is not None:
            return (StepCount(operators=self.operators, peak_bytes=self.peak_bytes * size),)
        if self.dies_at is not None and task.session >= self.dies_at[0]:
            raise self.dies_at[1]
        ripple = _RIPPLE[task.session % len(_RIPPLE)]
        probe = Probe(
            stage="throughput",
            session=task.session,
            micro_batch_size=task.micro_batch_sizes[0],
            outcome="fit",
            step_times_s=(self.step_s * ripple,) * 3,
            first_step_s=1.5 * ripple,
            canary_times_s=(0.01, 0.01),
        )
        return (probe,)

    @contextlib.contextmanager
    def watched(self, device, *, session):
        yield lambda: Telemetry(session=session)

    def execute(
        self, kind, spec, *, argv, progress, save, asked, held, began_s, shows_output, leader
    ):
        """Stand in for `advisor.engine.command.execute`."""
        record = open_record(kind.record_type, spec, kind=kind.name, argv=tuple(argv))
        record = msgspec.structs.replace(record, **{key.name: value for key, value in asked})
        run = Run(spec, record=record, runner=self, progress=progress, save=save, held=held)
        with run.completing():
            run.keep_environment(self.environment)
            run.keep_workload(msgspec.structs.replace(self.facts, file=spec.workload.target))
            for question in kind.questions:
                if question.check is not None:
                    question.check(run)
            for question in kind.questions:
                question.run(run)
        return run.record
