"""Sessions of one model, and records of them, whose figures are made up."""

import msgspec

from advisor.engine.record import Conclusions, open_record
from advisor.engine.spec import Spec
from advisor.memory.data import Probe
from advisor.noise_floor.question import KIND
from advisor.training.data import WorkloadSpec
from tests.unit.samples import ENVIRONMENT


def session(number, step_s, **fields):
    return Probe(
        stage="throughput",
        session=number,
        micro_batch_size=32,
        outcome="fit",
        step_times_s=(step_s,),
        **fields,
    )


def build_record(probes, **workload):
    spec = Spec(workload=WorkloadSpec(target="m.py", **workload))
    record = open_record(KIND.record_type, spec, kind=KIND.name, argv=())
    return msgspec.structs.replace(
        record,
        complete=True,
        environment=ENVIRONMENT,
        micro_batch_size=32,
        probes=tuple(probes),
    )


def build_comparison(sessions=6, *, complete=True, **workload):
    workload = workload or {"precision": "bf16", "settings": {"width": "8"}}
    probes = [session(n, 0.1 + 0.001 * (n % 3)) for n in range(sessions)]
    return msgspec.structs.replace(build_record(probes, **workload), complete=complete)


def conclusions_of(probes):
    return Conclusions(build_record(probes))
