"""Where branches start, and which stored ones go on from there."""

import hashlib

import msgspec
import pytest

from advisor.engine.spec import Limits
from advisor.errors import UsageError
from advisor.noise.data import GradientMoments, NoiseBatches
from advisor.training.data import parse_target
from advisor.verify.data import Origin, VerifySpec
from advisor.verify.stage import find_origin
from advisor.verify.tasks import count_steps, resume
from tests.unit.verify.advised_digits import EXAMPLE, build_run
from tests.unit.verify.verified_branches import make_all, make_record

SPEC = VerifySpec(target=str(EXAMPLE))
TARGET = parse_target(str(EXAMPLE))
TRAINED = Origin(model_sha256="0")
SAVED = Origin(model_sha256="0", checkpoint="a.pt", checkpoint_sha256="1")


class Notes(list):
    """A progress that keeps its notes."""

    note = list.append


def add_checkpoints(record):
    command = msgspec.structs.replace(record.command, limits=Limits(checkpoints=("early.pt",)))
    return msgspec.structs.replace(record, command=command)


def test_a_run_at_checkpoints_is_told_of_the_option_where_it_is_not_used(tmp_path):
    notes, record = Notes(), add_checkpoints(build_run())
    origin = find_origin(TARGET, record, SPEC, notes)
    assert origin.checkpoint is None
    (note,) = notes
    assert "--checkpoint FILE" in note
    assert "initialisation" in note
    path = tmp_path / "late.pt"
    path.write_bytes(b"weights")
    spec = msgspec.structs.replace(SPEC, checkpoint=str(path))
    found = find_origin(TARGET, record, spec, notes)
    assert found.checkpoint == str(path)
    assert found.checkpoint_sha256 == hashlib.sha256(b"weights").hexdigest()
    assert len(notes) == 1
    assert find_origin(TARGET, build_run(), SPEC, notes) == origin
    assert len(notes) == 1


def test_a_checkpoint_that_is_not_there_is_a_usage_error(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        spec = msgspec.structs.replace(SPEC, checkpoint=str(path))
        with pytest.raises(UsageError, match="cannot read the checkpoint"):
            find_origin(TARGET, build_run(), spec, Notes())


def test_the_trunk_is_half_of_the_trajectory_and_a_checkpoint_has_none():
    record = build_run()
    assert count_steps(record, TRAINED, 0.0, 60.0) == (100, 0)
    moments = GradientMoments(
        sqnorms=(1.0,), group_sqnorms=(1.0,), group_dots=(1.0,), total_sqnorm=1.0
    )
    point = NoiseBatches(at_step=500, loss=1.0, micro_batch_sizes=(8,), groups=(0,), plain=moments)
    followed = msgspec.structs.replace(record, noise_batches=(point,))
    assert count_steps(followed, TRAINED, 0.0, 60.0) == (250, 0)
    visited = msgspec.structs.replace(point, from_checkpoint="a.pt")
    assert count_steps(
        msgspec.structs.replace(record, noise_batches=(visited,)), TRAINED, 0.0, 60.0
    ) == (100, 0)
    assert count_steps(followed, SAVED, 0.0, 60.0) == (0, 100)


@pytest.mark.parametrize("origin", [TRAINED, SAVED])
def test_steps_before_the_branches_take_no_more_than_their_share_of_the_budget(origin):
    assert sum(count_steps(build_run(), origin, 0.5, 60.0)) == 24


def test_stored_branches_go_on_only_from_the_same_file_with_the_same_content():
    stored = msgspec.structs.replace(
        make_record(make_all()),
        trunk_steps=0,
        state_steps=50,
        checkpoint="a.pt",
        checkpoint_sha256="1",
    )
    fresh = msgspec.structs.replace(stored, branches=(), state_steps=100, samples=0)
    notes = Notes()
    assert resume(stored, fresh, SPEC, notes) == stored
    assert notes == []
    for field, value in (
        ("checkpoint", "b.pt"),
        ("checkpoint_sha256", "2"),
        ("checkpoint", None),
        ("model_sha256", "3"),
    ):
        other = msgspec.structs.replace(fresh, **{field: value})
        assert resume(stored, other, SPEC, notes) == other
    assert len(notes) == 4
    assert resume(None, fresh, SPEC, notes) == fresh
    restart = msgspec.structs.replace(SPEC, restart=True)
    assert resume(stored, fresh, restart, notes) == fresh
