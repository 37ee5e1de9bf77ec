"""What would save memory, by real traces: as the user's own change of the code would."""

import os
from pathlib import Path

import msgspec
import pytest

from advisor.predict import measure as tracing
from advisor.predict.changes import count_more_flops, write_how_to
from advisor.predict.data import TraceTask, WhatIf
from advisor.predict.footprint import Footprint
from advisor.predict.memory_trace import TraceBlock
from advisor.predict.pieces import derive_pieces
from advisor.predict.replay import AllocatorSettings
from advisor.training.data import WorkloadSpec

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "char_lm.py"

BY_HAND = """

from torch.utils.checkpoint import checkpoint


class Checkpointed(CharacterModel):
    def forward(self, inputs):
        hidden = self.embedding(inputs) + self.positions
        for layer in self.layers.layers:
            hidden = checkpoint(
                layer, hidden, src_mask=self.mask, is_causal=True, use_reentrant=False
            )
        return self.head(hidden)


def make_model(seq_len: int = 64, width: int = 64):
    return Checkpointed(seq_len, width)
"""

PASTED = """

from functools import partial

from torch.utils.checkpoint import checkpoint


def make_model(seq_len: int = 64, width: int = 64):
    model = CharacterModel(seq_len, width)
    {how_to}
    return model
"""


def trace(path, *, operators="cuda", precision="fp32", **changed):
    workload = WorkloadSpec(target=os.fspath(path), device="cpu", precision=precision)
    found = []
    tracing.run(TraceTask(workload=workload, operators=operators, **changed), found.append)
    (one,) = found
    assert one.method == "symbolic", one.reason
    return one


@pytest.fixture(scope="module")
def base():
    return trace(EXAMPLE)


@pytest.fixture(scope="module")
def checkpointed():
    return trace(EXAMPLE, checkpoint_blocks=True)


def sizes(found):
    """What was allocated and freed, module names aside: a hand-written loop calls others."""
    blocks = [TraceBlock(b.fixed_bytes, b.bytes_per_sample, b.category) for b in found.blocks]
    return blocks, found.events, found.phases


def test_checkpointing_and_bf16_raise_the_largest_micro_batch(base, checkpointed):
    half = trace(EXAMPLE, precision="bf16")
    largest = {}
    for name, one in {"base": base, "checkpointing": checkpointed, "bf16": half}.items():
        largest[name] = Footprint((one,), AllocatorSettings()).predict_largest(
            capacity_bytes=256 << 20
        )
        assert derive_pieces(one).predict_largest(256 << 20) >= largest[name]
    assert largest["checkpointing"] > 1.2 * largest["base"]
    assert largest["bf16"] > 1.2 * largest["base"]
    assert count_more_flops(base, checkpointed, 8) == pytest.approx(1 / 4, abs=1 / 10)


def test_the_what_if_equals_the_model_that_the_user_checkpointed(checkpointed, tmp_path):
    path = tmp_path / "by_hand.py"
    path.write_text(EXAMPLE.read_text() + BY_HAND)
    assert checkpointed.checkpointed == ("layers.layers.0", "layers.layers.1")
    assert sizes(trace(path)) == sizes(checkpointed)


def test_the_line_to_paste_does_what_was_predicted(checkpointed, tmp_path):
    what_if = WhatIf(change="checkpointing", trace=checkpointed)
    how_to = write_how_to(what_if, device_type="cuda", optimizer=None)
    path = tmp_path / "pasted.py"
    path.write_text(EXAMPLE.read_text() + PASTED.format(how_to=how_to))
    pasted = trace(path)
    assert sizes(pasted) == sizes(checkpointed)
    assert msgspec.structs.replace(pasted, checkpointed=checkpointed.checkpointed) == checkpointed


def test_foreach_off_lowers_the_optimizers_peak_alone(base):
    single = trace(EXAMPLE, foreach=False)
    before, after = derive_pieces(base), derive_pieces(single)
    assert after.forward_backward == before.forward_backward
    assert all(
        one.fixed_bytes < other.fixed_bytes
        for one, other in zip(after.optimizer, before.optimizer, strict=True)
    )
