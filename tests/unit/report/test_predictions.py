import io
import re

import msgspec
from rich.console import Console

from advisor.device.catalogue import describe_stated_gpu, find_gpu, list_gpus
from advisor.predict.prediction import derive_predictions
from advisor.predict.record import PredictCommand, PredictRecord
from advisor.predict.tell import write_catalogue, write_predictions_report
from advisor.training.data import WorkloadFacts
from tests.unit.predict.sample_trace import build_trace
from tests.unit.report.sample_run import build_environment

GIB = 2**30
CARDS = (find_gpu("H200"), find_gpu("RTX PRO 6000"), find_gpu("T4"), describe_stated_gpu(4 * GIB))


def build_record(**changes) -> PredictRecord:
    command = {"argv": (), "seed": 0, "precision": "fp32"} | changes.pop("command", {})
    workload = WorkloadFacts(
        file="m.py",
        model_name="Net",
        how_model="make_model",
        how_loss="inferred",
        how_optimizer="AdamW",
        how_batch="synthetic",
        parameter_count=1234567,
    )
    fields = {
        "tool_version": "0",
        "created_at": "2026-01-01T00:00:00+00:00",
        "complete": True,
        "command": PredictCommand(**command),
        "workload": workload,
        "environment": build_environment(),
        "traces": (build_trace(),),
        "elapsed_s": 12.0,
    }
    return PredictRecord(**fields | changes)


def render(record, cards=CARDS, *, width=80, headline_only=False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None)
    predictions = derive_predictions(record, cards)
    write_predictions_report(console, record, predictions, headline_only=headline_only)
    return stream.getvalue()


def test_the_report_fits_80_columns():
    assert max(map(len, render(build_record()).splitlines())) <= 80


def test_every_card_has_its_row_with_an_interval():
    text = render(build_record())
    for card in CARDS:
        assert card.name.split()[0] in text
    assert "16,692 (14,756 to 19,212)" in text
    assert "14.1 (11.6 to 16.0) GiB" in text


def test_the_report_says_that_nothing_was_run():
    text = render(build_record())
    assert text.startswith("Predicted, not run: the largest micro-batch is 16,692 on H200")
    assert "all figures predicted, not run" in text
    assert "90 % interval" in text


def test_the_parts_of_the_peak_stand_side_by_side():
    text = render(build_record())
    for part in ("parameters", "gradients", "optimizer state", "activations", "context"):
        assert part in text


def test_the_speed_is_called_a_bound():
    assert "a bound, not an estimate" in " ".join(render(build_record()).split())


def test_the_method_and_its_reason_are_told():
    plain = " ".join(render(build_record()).split())
    assert "one symbolic trace of three training steps serves every size" in plain
    assert "the attention is flash attention" in plain
    pair = tuple(build_trace(method="per_size", size=size) for size in (3, 6))
    sized = " ".join(render(build_record(traces=pair)).split())
    assert "the model branches on its batch size" in sized


def test_a_size_asked_for_has_a_verdict():
    text = render(build_record(command={"micro_batch_size": 1600}))
    assert "used at batch 1,600" in text
    for name, verdict in (("H200 SXM", "yes"), ("T4", "uncertain"), ("GPU of 4 GiB", "no")):
        assert re.search(f"^{name} .* {verdict} *$", text, re.MULTILINE)


def test_a_card_on_which_nothing_fits_is_named():
    text = render(build_record(), (describe_stated_gpu(512 * 2**20), find_gpu("T4")))
    assert "nothing on GPU of 0.5 GiB" in text
    assert "none fits" in text


def test_an_incomplete_prediction_says_why():
    text = render(build_record(complete=False, stopped_because="interrupted"))
    assert "The prediction is incomplete: interrupted." in text
    empty = render(build_record(complete=False, traces=(), stopped_because="interrupted"))
    assert empty.startswith("Nothing predicted: interrupted")


def test_what_is_not_known_is_left_out():
    record = build_record(workload=None, environment=None, elapsed_s=None)
    bare = msgspec.structs.replace(record.traces[0], notes=())
    text = render(msgspec.structs.replace(record, traces=(bare,)), CARDS[3:])
    assert "Model" not in text
    assert "Speed bound" not in text
    assert "assumes" not in text


def test_the_headline_stands_alone_when_asked():
    assert len(render(build_record(), CARDS[:1], headline_only=True).splitlines()) == 1


def test_the_dataset_and_the_cap_are_named_as_the_end():
    text = " ".join(render(build_record(command={"max_micro_batch_size": 8})).split())
    assert "larger sizes were not looked for" in text


def test_the_catalogue_lists_every_card_with_its_memory():
    stream = io.StringIO()
    write_catalogue(Console(file=stream, width=80, color_system=None), list_gpus())
    text = stream.getvalue()
    assert all(gpu.name in text for gpu in list_gpus())
    assert "143,771 MiB" in text
