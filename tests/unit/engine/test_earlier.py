"""Files of before, in which all that a command is asked stood under `command`, are read alike."""

import msgspec
import pytest

from advisor.advice.data import SCENARIO, Moment, Scenario
from advisor.engine.document import encode_document, read_record
from advisor.engine.record import Command, Conclusions
from advisor.engine.spec import Limits
from advisor.errors import UsageError
from advisor.noise.data import NOISE_BATCHES, GradientMoments, NoiseBatches
from advisor.predict.data import CARDS, CardsAsked
from advisor.questions import KINDS
from advisor.rate.range_data import RANGE, RangePlan
from advisor.sharpness.data import SHARPNESS, Sharpness

BATCHES = NoiseBatches(
    at_step=0,
    loss=1.0,
    micro_batch_sizes=(4, 4),
    groups=(0, 1),
    plain=GradientMoments(
        sqnorms=(1.0, 1.0), group_sqnorms=(1.0, 1.0), group_dots=(1.0, 1.0), total_sqnorm=2.0
    ),
)
SEEN = Sharpness(at_step=0, samples=8, micro_batch_size=4, largest_eigenvalue=2.0, converged=True)
SCENARIO_ASKED = Scenario(gpus=(1, 4), price_per_gpu_hour=2.5, milestones=(Moment(at=3),))


def make_record(name, **values):
    command = Command(argv=(), seed=3, precision="bf16", limits=Limits(max_micro_batch_size=64))
    return KINDS[name].record_type(
        kind=name, tool_version="0.1.0", created_at="", complete=True, command=command, **values
    )


def read(tmp_path, document):
    path = tmp_path / "before.json"
    path.write_bytes(msgspec.json.encode(document))
    return read_record(path, KINDS)[1]


def rearrange(record, key, field=None):
    """Return the document of the record as it was: asked under `command`, no limits of its own."""
    kind = KINDS[record.kind]
    document = msgspec.json.decode(encode_document(kind, Conclusions(record)))
    command, asked = document["command"], document.pop(key.name)
    command |= {field: asked} if field else asked
    return document


def test_what_a_run_works_out_on_paper_is_kept(tmp_path):
    record = make_record("run", scenario=SCENARIO_ASKED)
    document = rearrange(record, SCENARIO, "scenario")
    del document["kind"]
    assert read(tmp_path, document) == record


def test_the_sharpness_stood_beside_the_noise(tmp_path):
    record = make_record("run", scenario=Scenario(), noise_batches=(BATCHES, BATCHES))
    document = rearrange(record, SCENARIO, "scenario")
    seen = msgspec.to_builtins(SEEN) | {"elapsed_s": 1.0}
    document["noise_batches"][0]["curvature"] = None
    document["noise_batches"][1]["curvature"] = seen
    read_again = read(tmp_path, document)
    assert read_again.all(SHARPNESS) == (SEEN,)
    assert read_again.all(NOISE_BATCHES) == (BATCHES, BATCHES)


@pytest.mark.parametrize(
    ("name", "key", "asked"),
    [
        ("lr-range", RANGE, RangePlan(global_batch_size=16, low_rate=0.1, steps=50)),
        ("prediction", CARDS, CardsAsked(gpus=("T4",), micro_batch_size=8)),
    ],
)
def test_what_a_command_was_asked_is_kept(tmp_path, name, key, asked):
    record = make_record(name, **{key.name: asked})
    document = rearrange(record, key)
    limits = document["command"].pop("limits")
    document["command"] |= {"max_micro_batch_size": limits["max_micro_batch_size"]}
    document["command"] |= {"headroom_bytes": None}  # the default, in a prediction of before
    assert read(tmp_path, document) == record


def test_a_document_of_another_program_is_no_run(tmp_path):
    with pytest.raises(UsageError, match="is not a run written by bsadvisor"):
        read(tmp_path, {"schema_version": 1})
