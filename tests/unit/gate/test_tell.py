"""The verdict on the terminal: in 80 columns, in 24 lines, in words that are true."""

import io

import msgspec
import pytest
from rich.console import Console

from advisor.errors import InconclusiveError, NoBaselineError, RegressionError
from advisor.gate.data import IN_TURNS, KNOWN_SPREAD, OLD_NAME, POLICY, Policy
from advisor.gate.plan import COMPARISON
from advisor.gate.stage import CHECK
from advisor.gate.tell import head_comparison
from advisor.gate.tell_baseline import describe_baseline
from advisor.report.console import draw_part, write_report
from advisor.report.screen import MOST_LINES
from advisor.telling import Headline
from tests.unit.gate.checked import CALM, PEAKS, check, make_side
from tests.unit.gate.sides import SETTING, change_environment

FAILED = """\
FAIL: throughput 25 % slower (24.6 to 25.4 %); peak memory 4 % more; larger
batch 4 % more
Likely cause of throughput: the code: a step launches 131 operators, and
launched 113.
A change of throughput by 0.35 % would have shown.
If the change is meant, record the baseline again.

                    was        is  worse        interval  limit
────────────────────────────────────────────────────────────────────────
throughput        320/s     256/s   25 %  24.6 to 25.4 %    5 %  FAIL
peak memory   1,000 MiB  1.02 GiB    4 %                    1 %  FAIL
larger batch   1.46 GiB  1.52 GiB    4 %                    1 %  FAIL
operators           113       131   16 %                    1 %  warning
first step       1.50 s    1.50 s    0 %                   25 %  PASS
→ bsadvisor baseline record model.py
Everything else: bsadvisor report --full
"""


def show(conclusions, *, width=80, **options):
    """What the terminal shows, spaces at the ends of lines left out."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, no_color=True, force_terminal=False)
    write_report(console, CHECK, conclusions, **{"is_full": False, **options})
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def grow(factor):
    return tuple((size, round(factor * peak)) for size, peak in PEAKS)


def make_slower(factor=1.25, **changes):
    return make_side(factor, **{"peaks": grow(1.04), "operators": 131, **changes})


def test_the_first_screen_of_a_regression():
    assert show(check(make_slower())) == FAILED


#: Of figures of which each is as long as it can be.
LONG = {
    "step": 2.0,
    "peaks": ((32, 1023 << 30), (64, 1023 << 30)),
    "operators": 12_345_678,
    "first_step_s": 3540.0,
}


@pytest.mark.parametrize(
    ("old", "new", "slots"),
    [
        (None, make_side(), {}),
        (None, make_slower(), {}),
        (None, make_side(0.7), {}),
        (None, make_slower(setting=change_environment(torch="2.10", driver="570.1")), {}),
        (None, make_slower(product_s=(0.0125,)), {}),
        (None, make_slower(product_s=(0.0125,)), {IN_TURNS.name: True}),
        (None, make_side(times=(0.1, 0.2)), {}),
        (None, make_side(times=(0.1,)), {}),
        (None, make_side(peaks=((32, 1000 << 20), (64, None))), {}),
        (make_side(1e-4), make_slower(2e-4), {}),
        (
            make_side(30.0, peaks=LONG["peaks"], operators=12_345_678, first_step_s=3540.0),
            make_side(99.0, peaks=LONG["peaks"], operators=99_999_999, first_step_s=3570.0),
            {KNOWN_SPREAD.name: 0.5},
        ),
        (make_side(times=(0.1, 9.0)), make_side(times=(0.1, 90.0)), {}),
    ],
    ids=[
        *("pass", "fail", "improved", "stack", "machine", "in turns", "spread", "one session"),
        *("no fit", "fast", "long", "endless"),
    ],
)
def test_every_first_screen_fits_the_terminal(old, new, slots):
    told = show(check(new, old, **slots))
    assert len(told.splitlines()) <= MOST_LINES
    assert max(map(len, told.splitlines())) <= 80
    assert "…" not in told
    assert {"throughput", "first step"} <= {line[:12].strip() for line in told.splitlines()}


@pytest.mark.parametrize(
    ("new", "slots", "answer", "error"),
    [
        (make_side(), {}, "PASS: throughput as it was", None),
        (
            make_side(1.02),
            {},
            "PASS: throughput 2 % slower (1.7 to 2.3 %), nothing beyond what",
            None,
        ),
        (make_side(0.8), {}, "IMPROVED: throughput 20 % faster (19.8 to 20.2 %)", None),
        (make_slower(), {}, "FAIL: throughput 25 % slower (24.6 to 25.4 %); peak", RegressionError),
        (
            make_slower(),
            {POLICY.name: {"throughput": Policy(level="off")}},
            "FAIL: peak memory 4 % more; larger batch 4 % more",
            RegressionError,
        ),
        (
            make_side(operators=131),
            {},
            "PASS: throughput as it was (-0.3 to 0.3 %), nothing beyond what is allowed",
            None,
        ),
        (
            make_side(peaks=((32, 1000 << 20), (64, None))),
            {},
            "FAIL: batch 64 does not fit any more",
            RegressionError,
        ),
        (
            make_slower(setting=change_environment(torch="2.10")),
            {},
            "INCONCLUSIVE: env-changed (torch), so what was measured is no verdict on the code",
            InconclusiveError,
        ),
        (
            make_side(1.25, product_s=(0.0125,)),
            {},
            "INCONCLUSIVE: throughput 25 % slower",
            InconclusiveError,
        ),
        (
            make_side(times=CALM[:1]),
            {},
            "INCONCLUSIVE: throughput as it was",
            InconclusiveError,
        ),
        (
            make_side(setting=msgspec.structs.replace(SETTING, precision="bf16")),
            {},
            "No verdict: the two sides are not of one setting",
            NoBaselineError,
        ),
    ],
)
def test_the_headline_is_what_decides(new, slots, answer, error):
    headline = head_comparison(check(new, **slots))
    assert headline.answer.startswith(answer)
    assert (headline.missing is None) if error is None else isinstance(headline.missing, error)


def test_an_incomplete_check_says_so():
    headline = head_comparison(check(make_side(), complete=False))
    assert headline.answer.endswith("(from an incomplete run)")


def test_a_side_without_a_session_is_no_pass():
    headline = head_comparison(check(make_side(times=()), complete=False))
    said = "throughput: one side has no session of it"
    assert headline.answer == f"INCONCLUSIVE: {said} (from an incomplete run)"
    assert isinstance(headline.missing, InconclusiveError)


def test_what_was_and_what_is_differ_by_the_change():
    old, new = make_side(times=(0.1, 0.1, 0.2)), make_side(times=(0.1, 0.2, 0.2))
    verdict = check(new, old).of(COMPARISON).verdicts[0]
    assert verdict.old / verdict.new - 1.0 == pytest.approx(verdict.change.point)


def test_a_check_without_old_side_was_the_first():
    assert head_comparison(check(make_side(), ())).answer == (
        "PASS: there was no baseline, and now there is one: 8 sessions"
    )


@pytest.mark.parametrize(
    ("new", "slots", "advice"),
    [
        (make_side(), {}, None),
        (make_slower(), {}, "bsadvisor baseline record model.py"),
        (make_slower(), {IN_TURNS.name: True}, None),
        (make_side(1.25, product_s=(0.0125,)), {}, "bsadvisor check --against REF model.py"),
        (
            make_side(1.25, setting=change_environment(torch="2.10")),
            {},
            "bsadvisor baseline record model.py",
        ),
    ],
)
def test_the_next_command_is_one_that_helps(new, slots, advice):
    lines = show(check(new, **slots)).splitlines()
    commands = [line.removeprefix("→ ") for line in lines if line.startswith("→")]
    assert commands == ([] if advice is None else [advice])


def test_the_next_command_has_the_scripts_arguments():
    setting = msgspec.structs.replace(SETTING, target="my train.py", arguments=("--lr", "a b"))
    told = show(check(make_slower(setting=setting), make_side(setting=setting)))
    assert "→ bsadvisor baseline record 'my train.py' -- --lr 'a b'" in told


def test_files_that_were_compared_are_of_no_command():
    assert "→" not in show(check(make_slower(), is_command=False))


def test_what_cannot_be_told_is_given_more_time_where_there_is_a_command_for_it():
    noisy = make_side(1.05, times=(0.1, 0.13, 0.09, 0.12))
    assert "--budget" in show(check(noisy))
    told = show(check(noisy, is_command=False))
    assert "INCONCLUSIVE" in told
    assert "more sessions" in told
    assert "--budget" not in told


def test_what_cannot_be_compared_says_why_on_the_screen():
    setting = msgspec.structs.replace(SETTING, precision="bf16", compile=True)
    told = show(check(make_side(setting=setting)))
    assert "precision bf16, was fp32; compile on, was off" in told


def test_the_full_report_has_both_sides_and_every_figure():
    told = show(check(make_slower(), **{OLD_NAME.name: "base.json"}), is_full=True, width=120)
    for text in (
        "8 sessions of 94e82d9650, 2026-01-01 (base.json)",
        "8 sessions of 94e82d9650, changed",
        "larger batch: at batch 64",
        "throughput: the code: a step launches 131 operators",
        "If the change is meant, record the baseline again. bsadvisor baseline record model.py",
    ):
        assert text in told


def test_a_baseline_has_its_spread_and_its_setting():
    stream = io.StringIO()
    console = Console(file=stream, width=80, no_color=True)
    console.print(draw_part(Headline(answer="base.json"), describe_baseline(make_side())))
    told = " ".join(stream.getvalue().split())
    for text in (
        "320/s, spread 0.160 % between sessions",
        "a change of 0.46 % at the first look",
        "1,000 MiB at batch 32",
        "113 of a step",
        "torch 2.9",
        "8 sessions of 94e82d9650, 2026-01-01, bsadvisor 0.1.0",
    ):
        assert text in told, told


def test_a_first_baseline_passes_and_a_check_without_sides_has_no_verdict():
    first = check(make_side(), ())
    answer = show(first).splitlines()[0]
    assert answer == "PASS: there was no baseline, and now there is one: 8 sessions"
    none = check((), ())
    assert head_comparison(none).answer == "No verdict"
    assert show(none).startswith("No verdict")


def test_a_baseline_is_told_with_what_would_show_and_of_one_session_that_is_not_known():
    rows = {row.label: row.text for row in describe_baseline(make_side()).rows}
    assert rows["Memory"] == "1.46 GiB at batch 64"  # the last of two
    assert rows["Operators"] == "113 of a step"
    assert rows["Would show"].startswith("a change of 0.")
    (alone,) = make_side(times=CALM[:1], operators=None, peaks=())
    rows = {row.label: row.text for row in describe_baseline([alone]).rows}
    assert rows["Throughput"].endswith("/s, spread not known between sessions")
    assert {"Would show", "Operators", "Memory"}.isdisjoint(rows)


def test_a_baseline_without_a_session_says_nothing():
    (side,) = make_side()
    assert describe_baseline([msgspec.structs.replace(side, sessions=())]).rows == ()
    assert describe_baseline([]).rows == ()
