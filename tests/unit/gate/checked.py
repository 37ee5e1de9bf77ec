"""Checks of made-up sides, as records and as files."""

import msgspec

from advisor.engine.document import encode_document
from advisor.engine.record import Conclusions, open_record
from advisor.engine.spec import Spec
from advisor.gate.data import NEW, OCCASIONS, OLD, Revision
from advisor.gate.stage import BASELINE, CHECK
from advisor.training.data import WorkloadSpec
from tests.unit.gate.sides import SETTING, make_occasion
from tests.unit.samples import make_facts

#: Seconds of a step in sessions of a calm machine.
CALM = (0.1, 0.1002, 0.0999, 0.1001, 0.0998, 0.1, 0.1003, 0.1)
PEAKS = ((32, 1000 << 20), (64, 1500 << 20))
EXACT = {"peaks": PEAKS, "operators": 113, "first_step_s": 1.5, "product_s": (0.01,)}


def make_side(factor=1.0, *, setting=SETTING, **changes):
    """Return a side whose steps take so many times as long as the calm ones."""
    times = [factor * seconds for seconds in changes.pop("times", CALM)]
    fields = {**EXACT, **changes}
    revision = Revision(commit="94e82d9650aa", is_changed=factor != 1.0)
    occasion = make_occasion(*times, setting=setting, **fields)
    return (msgspec.structs.replace(occasion, revision=revision),)


def make_record(kind, **fields):
    spec = Spec(workload=WorkloadSpec(target=SETTING.target))
    record = open_record(kind.record_type, spec, kind=kind.name, argv=("bsadvisor", kind.name))
    fields = {"complete": True, "environment": SETTING.environment, **fields}
    record = msgspec.structs.replace(record, created_at="2026-01-01T00:00:00+00:00", **fields)
    return msgspec.structs.replace(record, tool_version="0.1.0")


def check(new, old=None, *, is_command=True, **slots):
    """Return the conclusions of a check of one side against the other, by default the calm one."""
    workload = make_facts(file=SETTING.target) if is_command else None
    sides = {OLD.name: make_side() if old is None else old, NEW.name: new}
    return Conclusions(make_record(CHECK, workload=workload, **sides, **slots))


def write_check(path, new, **options):
    """Write the file of such a check, and return its path."""
    path.write_bytes(encode_document(CHECK, check(new, **options)))
    return path


def write_baseline(path, side=None):
    """Write the file of a baseline, by default of the calm side, and return its path."""
    record = make_record(BASELINE, **{OCCASIONS.name: make_side() if side is None else side})
    path.write_bytes(encode_document(BASELINE, Conclusions(record)))
    return path
