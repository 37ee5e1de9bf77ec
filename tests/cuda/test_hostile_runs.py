"""Whole runs on hostile cards: a clear sentence, the contract's exit code, what was kept, no rest.

What single tasks say of them is in `test_hostile_cards.py`.
"""

import json
import os

import pytest

from advisor.engine.record import Conclusions
from advisor.engine.runner import Runner
from advisor.errors import DeviceError
from advisor.memory.plan import MEMORY
from tests.cuda.by_hand import LoopTask
from tests.cuda.conftest import MODELS, record_of, workload
from tests.integration.probe_command import run_command

MIB, GIB = 1 << 20, 1 << 30


@pytest.fixture
def probe(tmp_path):
    """A function: runs `bsadvisor probe` on a file of ours, which leaves no process behind."""

    def run(name, *options):
        document = tmp_path / "run.json"
        outcome = run_command(
            "probe", str(MODELS / f"{name}.py"), *options, "--json", str(document),
            directory=tmp_path,
        )  # fmt: skip
        assert outcome.survivors == ()
        return outcome, json.loads(document.read_text())

    return run


@pytest.mark.parametrize(
    ("card", "visible", "sentence"),
    [
        ({"memory_bytes": 300 * MIB}, None, "its memory is full"),
        ({"driver": 12000}, None, "its driver is too old for this build of torch"),
        ({}, "GPU-0badcafe", "CUDA_VISIBLE_DEVICES is 'GPU-0badcafe'"),
    ],
)
def test_a_card_that_cannot_be_used_is_told(cards, probe, monkeypatch, card, visible, sentence):
    cards(**card)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    outcome, record = probe("mlp", "--device", "cuda")
    assert outcome.exit_code == 6
    assert sentence in outcome.stderr
    assert sentence in record["stopped_because"]
    assert "Traceback" not in outcome.stderr


def test_a_card_lost_at_a_line_of_the_users_is_the_cards_fault(cards, probe, monkeypatch, tmp_path):
    cards()
    monkeypatch.setenv("STAND_IN_LOST", str(tmp_path / "lost"))
    outcome, record = probe("loses_card")
    assert outcome.exit_code == 6
    assert "it no longer answers" in outcome.stderr
    assert not record["complete"]
    assert [(each["micro_batch_size"], each["outcome"]) for each in record["probes"]] == [
        (64, "fit")
    ]


def memory_of(record):
    return Conclusions(record).of(MEMORY)


def test_a_size_that_a_neighbour_left_no_room_for_is_tried_again(cards, neighbour):
    cards(memory_bytes=8 * GIB)
    other = neighbour()

    def crowd(record):
        """It grows after the first probe, and shrinks once one has failed of that."""
        outcomes = [probe.outcome for probe in record.probes]
        other.hold(6680 * MIB if outcomes and "oom" not in outcomes else 0)

    record = record_of(
        workload("mlp"), "memory", save=crowd, memory_limit_bytes=GIB, headroom_bytes=0
    )
    memory, tried = memory_of(record), [probe.micro_batch_size for probe in record.probes]
    disturbed = next(probe for probe in record.probes if probe.outcome == "oom")
    assert tried.count(disturbed.micro_batch_size) == 2
    assert memory.max_micro_batch_size >= disturbed.micro_batch_size
    assert any(f"{disturbed.micro_batch_size} was tried" in each for each in memory.disturbances)


def test_a_neighbour_that_fills_the_card_between_two_stages_leaves_what_was_measured(
    cards, neighbour
):
    cards(memory_bytes=8 * GIB)
    other, saved = neighbour(), []

    def crowd(record):
        saved.append(record)
        if len(record.probes) == 2:
            other.hold(8 * GIB - 800 * MIB)

    with pytest.raises(DeviceError, match="memory is full"):
        record_of(workload("mlp"), "memory", "throughput", save=crowd, max_micro_batch_size=128)
    assert not saved[-1].complete
    assert [each.micro_batch_size for each in saved[-1].probes] == [64, 128]


def test_a_run_has_an_exclusive_card_to_itself(cards):
    cards(exclusive=1)
    record = record_of(workload("mlp"), "memory", max_micro_batch_size=128)
    assert memory_of(record).max_micro_batch_size == 128


def test_an_instance_of_a_cut_card_is_measured_as_a_card(cards, monkeypatch):
    cards(cards=2, mig=1, name="Small,Large", memory_bytes=f"{2 * GIB},{8 * GIB}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-7374616e-642d-696e-2d63-6172642d3031")
    record = record_of(workload("mlp"), "memory", max_micro_batch_size=128)
    assert record.environment.device.name == "Large"
    assert record.command.memory_limit_bytes > 7 * GIB
    assert {each.missing_because for each in record.environment.counters} >= {"mig"}
    assert memory_of(record).max_micro_batch_size == 128


def test_a_file_that_opens_the_card_as_it_is_imported_is_measured(cards):
    record = record_of(workload("opens_card"), "memory", max_micro_batch_size=128)
    assert memory_of(record).max_micro_batch_size == 128


def test_a_cap_of_the_users_own_is_the_limit(cards):
    record = record_of(workload("capped"), "memory")
    memory = memory_of(record)
    assert memory.capacity_bytes == GIB
    assert memory.verified
    assert any("1 GiB" in note for note in record.workload.notes)


def test_expandable_segments_hold_in_a_loop_what_the_search_found(cards, monkeypatch):
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    record = record_of(workload("mlp"), "memory", memory_limit_bytes=GIB, headroom_bytes=0)
    memory = memory_of(record)
    assert memory.verified
    path, size = str(MODELS / "mlp.py"), memory.max_micro_batch_size
    with Runner(None) as workers:
        # In loops of 16 steps: near the limit they fail at the fourth or later.
        for factor, fits in ((1.0, True), (1.1, False)):
            task = LoopTask(path=path, batch_size=int(factor * size), limit_bytes=GIB, steps=16)
            (counted,) = workers.run(task, timeout_s=60.0)
            assert (counted.allocated_bytes is not None) == fits


def test_a_package_that_opens_the_card_before_the_fork_costs_starts_and_no_answer(
    cards, monkeypatch, tmp_path
):
    opener = 'import sys\nif "worker.forkserver" in " ".join(sys.orig_argv):\n'
    opener += "    import torch\n    torch.cuda.init()\n"
    (tmp_path / "sitecustomize.py").write_text(opener)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ['PYTHONPATH']}")
    outcome = run_command("doctor", "--device", "cuda", directory=tmp_path)
    assert (outcome.exit_code, outcome.survivors) == (0, ())
    assert "H100" in outcome.stdout
