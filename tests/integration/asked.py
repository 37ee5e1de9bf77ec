"""A run that asks some questions alone, of real workers: the others cost time and tell nothing."""

from dataclasses import replace

from advisor.engine.command import execute
from advisor.engine.record import Conclusions
from advisor.engine.spec import Limits, Spec
from advisor.questions import RUN
from advisor.training.data import WorkloadSpec
from tests.unit.doubles import Notes


def ask(*names, target, settings=None, asked=(), **limits):
    """The conclusions of such a run; what ends it early is raised."""
    questions = [
        each if each.name in names else replace(each, run=None, more=None) for each in RUN.questions
    ]
    workload = WorkloadSpec(target=str(target), device="cpu", settings=settings or {})
    spec = Spec(workload=workload, limits=Limits(**{"budget_s": 30.0, **limits}))
    kind = replace(RUN, questions=tuple(questions))
    record = execute(kind, spec, argv=(), progress=Notes(), save=lambda record: None, asked=asked)
    return Conclusions(record)
