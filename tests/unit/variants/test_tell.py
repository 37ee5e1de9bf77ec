import msgspec
import pytest
from rich.console import Console, Group

from advisor.engine.question import Kind
from advisor.engine.record import Conclusions
from advisor.memory.data import Probe
from advisor.report.page import render_page
from advisor.report.tables import draw_tables
from advisor.telling import Headline
from advisor.variants.data import VariantRecord
from advisor.variants.stage import QUESTION
from advisor.variants.tell import describe_compilation, tabulate_variants
from tests.unit.doubles import text_of
from tests.unit.variants.measured_variants import compare, make_losses, make_probes, make_run

TABLE = """
Side by side                         fp32                bf16      fp32 compiled
────────────────────────────────────────────────────────────────────────────────
largest micro-batch                 ≥ 256               ≥ 256                  -
saturates at batch                      -                   -                  -
samples/s at 256            8,560 ± 2.5 %      17,100 ± 2.5 %       not measured
  over fp32                                       2.00 ± 0.05       not measured
fastest batch timed                   256                 256                  -
  samples/s there           8,560 ± 2.5 %      17,100 ± 2.5 %       not measured
  over fp32                                       2.00 ± 0.05       not measured
loss at the end             0.750 ± 0.621       0.750 ± 1.588       not measured
  minus fp32                                   +0.125 ± 0.000       not measured
the advice is for fp32; ± 95 % interval, over sessions for speed; loss after 100
steps of batch 32 from 3 seeds, the differences seed by seed
bf16: the machine itself was 50 % slower than beside fp32, by a fixed matrix
product; the ratio holds both
bf16: 1 of 3 seeds diverged
fp32 compiled: not measured: no C++ compiler
"""


def draw(variants, width=80):
    return text_of(Console.print, Group(*draw_tables(tabulate_variants(variants))), width=width)


def two_and_one_that_failed():
    return make_run(
        VariantRecord(
            precision="bf16",
            probes=make_probes(2.0, canary_s=0.02),
            losses=make_losses((0.625, 0.875, None)),
        ),
        VariantRecord(
            precision="fp32",
            compile=True,
            missing_because="no C++ compiler",
            loss_missing_because="no size of it ran",
        ),
        losses=make_losses((0.5, 0.75, 1.0)),
    )


def test_the_table_reads_like_this():
    lines = [line.rstrip() for line in draw(compare(two_and_one_that_failed())).splitlines()]
    assert lines == TABLE.splitlines()


def test_every_line_fits_80_columns():
    text = draw(compare(two_and_one_that_failed()))
    assert max(map(len, text.splitlines())) <= 80


def test_what_is_missing_or_doubtful_is_said_below():
    text = " ".join(draw(compare(two_and_one_that_failed())).split())
    assert "fp32 compiled: not measured: no C++ compiler" in text
    assert "no size of it ran" not in text  # the first reason says it all
    assert "bf16: the machine itself was 50 % slower than beside fp32" in text
    assert "bf16: 1 of 3 seeds diverged" in text


def test_a_variant_without_a_loss_says_why():
    run = make_run(
        VariantRecord(precision="bf16", probes=make_probes(), loss_missing_because="no data")
    )
    assert "bf16: no loss: no data" in draw(compare(run))


def test_a_compiler_that_compiled_nothing_is_named():
    probes = make_probes(recompiles=0)
    run = make_run(VariantRecord(precision="fp32", compile=True, probes=probes))
    assert "fp32 compiled: torch.compile compiled nothing" in draw(compare(run))


def test_more_variants_than_fit_abreast_repeat_the_first():
    names = ("tf32", "bf16", "fp16")
    run = make_run(*(VariantRecord(precision=name, probes=make_probes()) for name in names))
    heads = [line for line in draw(compare(run)).splitlines() if "Side by side" in line]
    assert [line.split()[3:] for line in heads] == [["fp32", "tf32", "bf16"], ["fp32", "fp16"]]


def test_no_variants_draw_nothing():
    assert tabulate_variants(()) == ()


def test_the_page_has_the_table_as_well():
    run = two_and_one_that_failed()
    kind = Kind(
        name="run",
        noun="run",
        command="probe",
        questions=(QUESTION,),
        headline=lambda conclusions: Headline(answer="It"),
        is_worth_telling=lambda record: True,
    )
    assert "Side by side" in render_page(kind, Conclusions(run))


@pytest.mark.parametrize(
    ("recompiles", "words"),
    [(2, "18 graphs for 3 batch sizes over 3 sessions"), (0, "compiled nothing")],
)
def test_compilations_of_the_run_itself_are_counted(recompiles, words):
    run = make_run()
    assert describe_compilation(run) is None
    command = msgspec.structs.replace(run.command, compile=True)
    compiled = msgspec.structs.replace(
        run, command=command, probes=make_probes(recompiles=recompiles)
    )
    assert words in describe_compilation(compiled)
    memory_alone = (Probe(stage="memory", session=0, micro_batch_size=1, outcome="fit"),)
    assert describe_compilation(msgspec.structs.replace(compiled, probes=memory_alone)) is None
