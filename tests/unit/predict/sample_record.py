"""The record of a prediction, built by hand."""

from advisor.cards.question import KIND as PREDICTION
from advisor.engine.record import Command
from advisor.engine.spec import Limits
from advisor.predict.data import CardsAsked
from advisor.training.data import WorkloadFacts
from tests.unit.predict.sample_trace import build_trace
from tests.unit.report.sample_run import build_environment

FACTS = WorkloadFacts(
    file="m.py",
    model_name="Net",
    how_model="make_model",
    how_loss="inferred",
    how_optimizer="AdamW",
    how_batch="synthetic",
    parameter_count=1234567,
)


def build_record(*, limits=None, **changes):
    """A complete record of one symbolic trace; options of `CardsAsked` go there."""
    asked = {name: changes.pop(name) for name in CardsAsked.__struct_fields__ if name in changes}
    fields = {
        "kind": "prediction",
        "tool_version": "0",
        "created_at": "2026-01-01T00:00:00+00:00",
        "complete": True,
        "command": Command(argv=(), seed=0, precision="fp32", limits=Limits(**limits or {})),
        "cards": CardsAsked(**{"gpus": ("T4",)} | asked),
        "workload": FACTS,
        "environment": build_environment(),
        "traces": (build_trace(),),
        "elapsed_s": 12.0,
    }
    return PREDICTION.record_type(**fields | changes)
