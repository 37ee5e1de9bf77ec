import re

import msgspec
from rich.console import Console, Group

from advisor.cards.question import KIND as PREDICTION
from advisor.device.catalogue import list_gpus
from advisor.engine.record import Conclusions
from advisor.predict.prediction import predict_cards, read_case
from advisor.predict.tell import tell_catalogue
from advisor.report.console import write_report
from advisor.report.tables import draw_table
from tests.unit.doubles import text_of
from tests.unit.predict.sample_record import FACTS
from tests.unit.predict.sample_record import build_record as build_any
from tests.unit.predict.sample_trace import build_trace

GIB = 2**30
CARDS = {"gpus": ("H200", "RTX PRO 6000", "T4"), "gpu_memory_bytes": (4 * GIB,)}


def build_record(**changes):
    return build_any(**CARDS | changes)


def render(record, *, width=80, headline_only=False) -> str:
    conclusions = Conclusions(record)
    return text_of(write_report, PREDICTION, conclusions, width=width, headline_only=headline_only)


def test_the_report_fits_80_columns():
    assert max(map(len, render(build_record()).splitlines())) <= 80


def test_every_card_has_its_row_with_an_interval():
    text = render(build_record())
    for one in predict_cards(read_case(build_record())):
        assert one.gpu.split()[0] in text
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
    text = render(build_record(micro_batch_size=1600))
    assert "used at batch 1,600" in text
    for name, verdict in (("H200 SXM", "yes"), ("T4", "uncertain"), ("GPU of 4 GiB", "no")):
        assert re.search(f"^{name} .* {verdict} *$", text, re.MULTILINE)


def test_a_card_on_which_nothing_fits_is_named():
    text = render(build_record(gpus=("T4",), gpu_memory_bytes=(512 * 2**20,)))
    assert "nothing on GPU of 0.5 GiB" in " ".join(text.split())
    assert "none fits" in text


def test_an_incomplete_prediction_says_why():
    text = render(build_record(complete=False, stopped_because="interrupted"))
    assert "The prediction is incomplete: interrupted." in text
    empty = render(build_record(complete=False, traces=(), stopped_because="interrupted"))
    assert empty.startswith("Nothing predicted: interrupted")


def test_what_is_not_known_is_left_out():
    bare = msgspec.structs.replace(build_trace(), notes=())
    unknown = {"workload": None, "environment": None, "elapsed_s": None}
    text = render(build_record(traces=(bare,), gpus=(), **unknown))
    assert "Model" not in text
    assert "Speed bound" not in text
    assert "assumes" not in text


def test_the_headline_stands_alone_when_asked():
    assert (
        len(
            render(
                build_record(gpus=("H200",), gpu_memory_bytes=()), headline_only=True
            ).splitlines()
        )
        == 1
    )


def test_the_dataset_and_the_cap_are_named_as_the_end():
    text = " ".join(render(build_record(limits={"max_micro_batch_size": 8})).split())
    assert "larger sizes were not looked for" in text


def test_the_catalogue_lists_every_card_with_its_memory():
    table = Group(*draw_table(tell_catalogue(list_gpus())))
    text = text_of(Console.print, table)
    assert all(gpu.name in text for gpu in list_gpus())
    assert "143,771 MiB" in text


def test_the_lower_of_dataset_and_cap_ends_the_sizes():
    few = msgspec.structs.replace(FACTS, dataset_size=100, min_micro_batch_size=2)
    for limits, ceiling, by in (
        ({}, 100, "dataset"),
        ({"max_micro_batch_size": 64}, 64, "cap"),
        ({"max_micro_batch_size": 128, "batch_multiple": 4}, 100, "dataset"),
    ):
        case = read_case(build_record(workload=few, limits=limits))
        assert (case.ceiling, case.ceiling_by, case.smallest) == (ceiling, by, 2)
        assert case.batch_multiple == limits.get("batch_multiple", 1)


def test_expandable_segments_are_told():
    assert "expandable segments" in render(build_record(expandable_segments=True))
