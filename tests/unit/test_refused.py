"""What cannot be is refused where it is read, and what is missing where it is asked for."""

import math

import pytest
from msgspec.structs import replace

import advisor
from advisor.errors import UsageError, note_place, place_of
from advisor.rate.data import TrialBranch
from advisor.rate.range_data import LrRangeCurve
from tests.unit.noise.drawn import draw_gradients, split
from tests.unit.samples import make_branches


def test_the_package_hands_out_nothing_else():
    with pytest.raises(AttributeError, match="no attribute 'NoiseScaleMonitors'"):
        advisor.NoiseScaleMonitors


def test_a_span_has_steps_and_a_curve_a_loss_for_each_rate():
    seen = split(draw_gradients(32)[0], [2] * 16)
    assert replace(seen, stands_for=(0, 1)).stands_for == (0, 1)
    with pytest.raises(ValueError, match="a span of no steps"):
        replace(seen, stands_for=(1, 1))
    with pytest.raises(ValueError, match="not as long"):
        LrRangeCurve(
            micro_batch_size=1,
            gradient_accumulation_steps=1,
            global_batch_size=1,
            steps=2,
            seed=0,
            rates=(0.1, 0.2),
            losses=(1.0,),
            stopped_by="range",
        )


def test_a_branch_that_was_never_evaluated_has_no_loss_and_fell_by_nothing_known():
    (branch,) = make_branches(8, 1.0, (2.0, 1.0), seeds=1)
    assert branch.fall == 1.0
    empty = replace(branch, evaluations=())
    assert isinstance(empty, TrialBranch)
    assert math.isnan(empty.end.loss)
    assert math.isnan(empty.fall)


def test_the_innermost_place_stands_and_an_error_of_ours_has_its_own():
    error = ValueError("no")
    note_place(error, "make_model", "Mend it.")
    note_place(error, "the model file")
    assert place_of(error) == ("make_model", "Mend it.")
    ours = UsageError("no", next_step="Give one.")
    note_place(ours, "make_model")
    assert place_of(ours) is None
