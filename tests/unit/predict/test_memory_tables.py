import msgspec
import pytest
from rich.console import Console, Group

from advisor.predict.breakdown import break_down
from advisor.predict.data import MemorySaving, MemorySavings, ModuleShare
from advisor.predict.memory_tables import tell_peak, tell_savings
from advisor.report.tables import draw_tables
from tests.unit.doubles import text_of
from tests.unit.predict.sample_trace import MIB, build_trace


def render(parts) -> str:
    return text_of(Console.print, Group(*parts))


def render_peak(peak, **options) -> str:
    return render(draw_tables([tell_peak(peak, **options)]))


def render_savings(savings) -> str:
    return render(draw_tables(tell_savings(savings)))


def share(name, size, *, count=1, parts=()):
    held = {"activation": size - size // 4, "temporary": size // 4}
    return ModuleShare(name=name, count=count, size_bytes=size, bytes_by_category=held, parts=parts)


def build_peak(*modules):
    peak = break_down(build_trace(), 64)
    size = sum(each.size_bytes for each in modules)
    return msgspec.structs.replace(peak, peak_bytes=size, modules=modules)


LAYERS = share(
    "encoder.layers.*",
    80 * MIB,
    count=12,
    parts=(share("encoder.layers.*.mlp", 60 * MIB), share("encoder.layers.*", 20 * MIB)),
)


def build_saving(name, largest=50, peak=100 * MIB, how_to="line", note="note"):
    return MemorySaving(
        name=name, how_to=how_to, max_micro_batch_size=largest, peak_bytes=peak, note=note
    )


def build_savings(*savings, largest=20):
    return MemorySavings(
        micro_batch_size=20,
        max_micro_batch_size=largest,
        peak_bytes=400 * MIB,
        savings=savings,
    )


def test_modules_stand_with_their_parts_and_what_they_mostly_hold():
    peak = build_peak(LAYERS, share(None, 15 * MIB), share("", 5 * MIB))
    text = render_peak(peak, where=" on a card")
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[1].split("  ")[0] == "At the peak, batch 64 on a card"
    assert [line.split("   ")[0].rstrip() or line for line in lines[3:8]] == [
        "encoder.layers.* (× 12)",
        "  .mlp",
        "  operations of its own",
        "outside of the modules",
        "the model's own operations",
    ]
    assert "80.0 MiB    80 %   activations, 75 %" in lines[3]
    assert "in the backward pass of step 2" in text
    assert "all others" not in text


def test_what_is_small_is_summed_up():
    small = [share(f"m{i}", MIB) for i in range(10)]
    text = render_peak(build_peak(share("large", 90 * MIB), *small))
    assert "m4" in text
    assert "m5" not in text
    assert "all others" in text
    assert "5.00 MiB" in text


def test_a_peak_before_the_first_step_has_no_levels_of_a_step():
    peak = msgspec.structs.replace(build_peak(LAYERS), phase="setup", step=0)
    text = render_peak(peak)
    assert "before the first step; unrounded" in text


def test_a_long_name_loses_its_start():
    name = "a_very_long_component." * 3 + "end"
    assert "component.end" in render_peak(build_peak(share(name, MIB)))


@pytest.mark.parametrize("cards", [1, 2, 3])
def test_every_card_is_a_column_and_80_columns_hold_three(cards):
    one = build_savings(build_saving("activation checkpointing", largest=1234))
    compared = [(f"RTX 409{i}", one) for i in range(cards)]
    text = render_savings(compared)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("20; 400 MiB") == cards
    assert text.count("1,234; 100 MiB") == cards
    assert "not run" in text


def test_a_remedy_that_helps_on_one_card_alone_says_so_on_the_other():
    compared = [
        ("A", build_savings(build_saving("first"))),
        ("B", build_savings(build_saving("second"), largest=0)),
    ]
    text = render_savings(compared)
    assert text.count("no gain") == 2
    assert "none; 400 MiB" in text


def test_a_loop_to_paste_stands_on_two_lines():
    how_to = "for block in model.layers: block.forward = partial(checkpoint, block.forward)"
    text = render_savings([("", build_savings(build_saving("x", how_to=how_to)))])
    assert [line.rstrip() for line in text.splitlines()[-2:]] == [
        "  for block in model.layers:",
        "      block.forward = partial(checkpoint, block.forward)",
    ]


def test_where_nothing_helps_there_is_no_table():
    assert tell_savings([("A", build_savings())]) == ()
    assert tell_savings([]) == ()
