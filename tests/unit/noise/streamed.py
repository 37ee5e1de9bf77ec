"""A run whose worker streams what it is given."""

import msgspec

from advisor.engine.spec import Limits, Spec
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes
from tests.unit.samples import ENVIRONMENT, FACTS, make_probes, make_record


class FakeRunner:
    """Streams results as a worker would, until it is stopped."""

    def __init__(self, batches):
        self.batches, self.tasks, self.sent = batches, [], 0

    def run(self, task, *, timeout_s, on_result=None):
        self.tasks.append(task)
        for each in self.batches:
            self.sent += 1
            on_result(each)
        return tuple(self.batches)


def make_run(batches=(), *, facts=FACTS, **limits):
    runner, notes = FakeRunner(batches), Notes()
    spec = Spec(
        workload=WorkloadSpec(target="model.py"), limits=Limits(**{"budget_s": 1000.0, **limits})
    )
    run = open_run(spec, runner=runner, progress=notes, save=lambda record: None)
    keep_record(run, facts, make_probes(), **limits)
    return run, runner, notes


def keep_record(run, facts, probes, **limits):
    record = make_record(facts, probes=probes, **limits)
    run.record = msgspec.structs.replace(record, environment=ENVIRONMENT)
