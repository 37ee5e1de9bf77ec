import msgspec
import pytest

from advisor.questions import RUN
from advisor.report.console import collect
from advisor.soak.data import SoakConclusion
from advisor.soak.tell import describe_soak
from advisor.statistics import Estimate
from tests.given import GivenConclusions
from tests.unit.report.sample_run import build_derived, build_record

MIB = 2**20
SOAK = SoakConclusion(
    micro_batch_size=64,
    holds=True,
    steps=60,
    evaluations=3,
    training_peak_bytes=300 * MIB,
    evaluation_peak_bytes=100 * MIB,
    reserve_peak_bytes=350 * MIB,
    is_growth_tested=True,
    growth_bytes_per_step=None,
    steps_until_full=None,
    evaluation_needs_more=False,
)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {},
            (
                "micro-batch 64 holds over 60 steps; peaks: training 300 MiB, evaluation 100 MiB, "
                "with a copy of the state 350 MiB; memory does not grow"
            ),
        ),
        (
            {
                "holds": None,
                "steps": 8,
                "is_growth_tested": False,
                "evaluation_peak_bytes": None,
                "reserve_peak_bytes": None,
            },
            (
                "micro-batch 64 ran over 8 steps, too few to tell whether it holds; peaks: "
                "training 300 MiB"
            ),
        ),
        (
            {
                "holds": False,
                "growth_bytes_per_step": Estimate(2.0 * MIB, 1.9 * MIB, 2.1 * MIB),
                "steps_until_full": 700,
                "reserve_peak_bytes": None,
            },
            (
                "micro-batch 64 ran over 60 steps, but memory grows; peaks: training 300 MiB, "
                "evaluation 100 MiB; memory grows by 2.00 MiB (1.90 MiB to 2.10 MiB) with each "
                "step, full after about 700 steps"
            ),
        ),
        (
            {
                "holds": False,
                "steps": 1,
                "training_peak_bytes": None,
                "evaluation_peak_bytes": None,
                "reserve_peak_bytes": None,
                "is_growth_tested": False,
                "failed": (128, 64),
                "message": "can't allocate",
            },
            (
                "micro-batch 64 ran out of memory after 1 step; out of memory before: 128; can't "
                "allocate"
            ),
        ),
    ],
)
def test_the_soak_in_one_paragraph(changes, text):
    assert describe_soak(msgspec.structs.replace(SOAK, **changes)) == text


def test_growth_without_a_limit_has_no_end():
    soak = msgspec.structs.replace(
        SOAK, holds=False, growth_bytes_per_step=Estimate(2.0 * MIB, 1.9 * MIB, 2.1 * MIB)
    )
    assert describe_soak(soak).endswith("with each step")


def list_findings(derived):
    rows = collect(RUN, GivenConclusions(build_record(), derived)).rows
    return [(row.label, row.text) for row in rows]


def test_the_soak_has_a_row_where_there_is_one():
    derived = msgspec.structs.replace(build_derived(), soak=SOAK)
    assert ("Soak", describe_soak(SOAK)) in list_findings(derived)
    assert "Soak" not in dict(list_findings(build_derived()))


def test_disturbances_are_told_where_no_warning_tells_them():
    derived = build_derived()
    memory = msgspec.structs.replace(derived.memory, disturbances=("A fact. Set it.",))
    bare = msgspec.structs.replace(derived, memory=memory, recommendation=None)
    assert ("Memory", "A fact. Set it.") in list_findings(bare)


def test_the_soak_is_told_after_the_speed_and_before_the_rate():
    derived = msgspec.structs.replace(build_derived(), soak=SOAK)
    labels = [label for label, _ in list_findings(derived)]
    assert labels.index("Saturation") < labels.index("Soak") < labels.index("Learning rate")
