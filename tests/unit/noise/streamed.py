"""A run whose worker streams what it is given."""

import msgspec

from advisor.engine.spec import Limits, Spec
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes, StreamingRunner
from tests.unit.samples import ENVIRONMENT, FACTS, make_probes, make_record


def make_run(batches=(), *, facts=FACTS, **limits):
    runner, notes = StreamingRunner(batches), Notes()
    spec = Spec(
        workload=WorkloadSpec(target="model.py"), limits=Limits(**{"budget_s": 1000.0, **limits})
    )
    run = open_run(spec, runner=runner, progress=notes, save=lambda record: None)
    keep_record(run, facts, make_probes(), **limits)
    return run, runner, notes


def keep_record(run, facts, probes, **limits):
    record = make_record(facts, probes=probes, **limits)
    run.record = msgspec.structs.replace(record, environment=ENVIRONMENT)
