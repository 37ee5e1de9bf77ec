"""What CI shows: each form as those read it who it is for."""

import json
import re
from xml.etree import ElementTree as ET

import msgspec
import pytest

from advisor.gate.data import POLICY, Policy
from advisor.gate.stage import CHECK
from advisor.report import ci
from advisor.report.markdown import render_markdown
from tests.unit.gate.checked import PEAKS, check, make_side
from tests.unit.gate.sides import SETTING, change_environment

SLOWER = make_side(1.25, peaks=tuple((size, peak * 5 // 4) for size, peak in PEAKS), operators=131)
STACK = make_side(1.25, setting=change_environment(torch="2.10"), operators=131)
OTHER = make_side(setting=msgspec.structs.replace(SETTING, precision="bf16"))
MACHINE = make_side(1.25, product_s=(0.0125,))
LARGER = make_side(peaks=((32, 1000 << 20), (64, None)))

SUMMARY = """\
### FAIL: throughput 25 % slower (24.6 to 25.4 %); peak memory 25 % more; larger batch 25 % more

Likely cause of throughput: the code: a step launches 131 operators, and launched 113.

A change of throughput by 0.35 % would have shown.

If the change is meant, record the baseline again.

|   | was | is | worse | interval | limit |   |
| :-- | --: | --: | --: | --: | --: | :-- |
| throughput | 320/s | 256/s | 25 % | 24.6 to 25.4 % | 5 % | FAIL |
| peak memory | 1,000 MiB | 1.22 GiB | 25 % |  | 1 % | FAIL |
| larger batch | 1.46 GiB | 1.83 GiB | 25 % |  | 1 % | FAIL |
| operators | 113 | 131 | 16 % |  | 1 % | warning |
| first step | 1.50 s | 1.50 s | 0 % |  | 25 % | PASS |

Next: `bsadvisor baseline record model.py`
"""


def test_the_summary_is_the_first_screen():
    assert render_markdown(CHECK, check(SLOWER)) == SUMMARY


def test_a_comment_is_the_same_after_a_marker_that_tells_models_apart():
    assert ci.render_comment(check(SLOWER)) == f"<!-- bsadvisor check model.py -->\n{SUMMARY}"
    setting = msgspec.structs.replace(SETTING, target="a b/--><b>.py")
    side = make_side(setting=setting)
    marker = ci.render_comment(check(side, side)).partition("\n")[0]
    assert re.fullmatch(r"<!-- bsadvisor check [\w./-]+ -->", marker)
    assert "--" not in marker[4:-3]


@pytest.mark.parametrize(
    ("new", "is_news"),
    [
        (make_side(), False),
        (SLOWER, True),
        (make_side(0.7), True),
        (make_side(operators=131), True),  # it warns
        (STACK, False),  # nobody's change
        (MACHINE, False),
        (OTHER, False),
        (make_side(times=(0.1, 0.3, 0.1)), False),
    ],
)
def test_only_a_change_is_worth_a_comment(new, is_news):
    assert ci.is_worth_a_comment(check(new)) is is_news


@pytest.mark.parametrize(
    ("new", "levels"),
    [
        (make_side(), []),
        (make_side(0.7), []),
        (SLOWER, ["error throughput", "error peak memory", "error larger batch",
                  "warning operators"]),
        (LARGER, ["error larger batch"]),
        (MACHINE, ["warning throughput"]),
        (STACK, ["warning throughput", "warning peak memory", "warning larger batch"]),
        (make_side(times=(0.1, 0.3, 0.1)), ["warning throughput"]),
        (OTHER, ["warning"]),
    ],
)  # fmt: skip
def test_each_metric_has_one_annotation_at_most(new, levels):
    lines = [*ci.list_annotations(check(new))]
    form = re.compile(r"::(error|warning) title=bsadvisor ?([^:,]*)::([^\r\n]+)")
    found = [form.fullmatch(line) for line in lines]
    assert all(found), lines
    assert [f"{one[1]} {one[2]}".strip() for one in found] == levels
    assert not any("file=" in line for line in lines)  # which one is not known


def test_an_annotation_says_all_in_one_line():
    (line, *_) = ci.list_annotations(check(SLOWER))
    assert line == (
        "::error title=bsadvisor throughput::FAIL: throughput 25 %25 slower (24.6 to 25.4 %25); "
        "code: a step launches 131 operators, and launched 113"
    )
    setting = change_environment(torch="2\r\n::error::100%")
    lines = [*ci.list_annotations(check(make_side(1.25, setting=setting)))]
    assert lines
    assert not any({"\r", "\n"} & set(line) for line in lines)


def read_cases(new, **slots):
    """Return what a reader of JUnit sees of each case, and of all."""
    text = ci.render_junit(check(new, **slots))
    assert text.startswith('<?xml version="1.0" encoding="utf-8"?>\n<testsuites ')
    root = ET.fromstring(text.encode())
    (suite,) = root
    assert (root.tag, suite.tag, suite.get("name")) == (
        "testsuites",
        "testsuite",
        "bsadvisor check",
    )
    cases = {}
    for case in suite:
        assert case.tag == "testcase"
        kinds = [child.tag for child in case]
        assert kinds in ([], ["failure"], ["skipped"])
        assert all(child.text == child.get("message") for child in case)
        cases[case.get("classname"), case.get("name")] = kinds[0] if kinds else "passed"
    assert len(cases) == len(suite)  # of equal names a reader takes the first alone
    counts = {
        "tests": len(cases),
        "failures": [*cases.values()].count("failure"),
        "errors": 0,
        "skipped": [*cases.values()].count("skipped"),
    }
    for element in (root, suite):
        assert {name: int(element.get(name)) for name in counts} == counts
    return {name: kind for (_, name), kind in cases.items()}


def test_junit_has_a_case_for_each_metric():
    assert read_cases(SLOWER) == {
        "throughput": "failure",
        "peak_memory": "failure",
        "largest_batch": "failure",
        "operators": "passed",  # it only warns
        "first_step": "passed",
    }
    off = {POLICY.name: {"throughput": Policy(level="off")}}
    assert "throughput" not in read_cases(SLOWER, **off)


@pytest.mark.parametrize("new", [STACK, make_side(times=(0.1, 0.3, 0.1)), MACHINE, OTHER])
def test_junit_fails_only_where_the_check_does(new):
    cases = read_cases(new)
    assert "failure" not in cases.values()
    assert "skipped" in cases.values()


def test_junit_is_xml_whatever_a_file_said():
    setting = change_environment(torch='<&"\x00\x1b[2J\ud7ff\ufffe]]>')
    read_cases(make_side(1.25, setting=setting))
    target = msgspec.structs.replace(SETTING, target="a\x01<.py")
    side = make_side(setting=target)
    assert read_cases(side, old=side)["throughput"] == "passed"


def test_github_action_benchmark_reads_entries_of_which_less_is_better():
    entries = json.loads(ci.render_export("github-action-benchmark", check(SLOWER)))
    assert [entry["name"] for entry in entries] == [
        "model.py: throughput",
        "model.py: peak_memory",
        "model.py: largest_batch",
        "model.py: operators",
        "model.py: first_step",
    ]
    for entry in entries:
        assert set(entry) <= {"name", "unit", "value", "range", "extra"}
        assert isinstance(entry["value"], int | float)
        assert all(isinstance(entry[name], str) for name in ("name", "unit", "extra"))
    speed, memory, *_ = entries
    assert (speed["unit"], memory["unit"]) == ("s/sample", "bytes")
    assert speed["value"] == pytest.approx(0.125 / 32, rel=0.01)
    assert re.fullmatch(r"± [\d.e-]+", speed["range"])
    assert 0.0 < float(speed["range"][2:]) < 0.01 * speed["value"]
    assert "range" not in memory
    assert memory["extra"] == "FAIL: peak memory 25 % more"


def test_bencher_reads_measures_with_their_bounds():
    (name, measures), *others = json.loads(ci.render_export("bencher", check(SLOWER))).items()
    assert (name, others) == ("model.py", [])
    assert set(measures) == {
        "throughput",
        "peak-memory",
        "largest-batch",
        "operators",
        "first-step",
    }
    for measure in measures.values():
        assert set(measure) <= {"value", "lower_value", "upper_value"}
        assert all(isinstance(value, int | float) for value in measure.values())
    speed = measures["throughput"]
    assert speed["value"] == pytest.approx(256.0, rel=0.01)
    assert speed["lower_value"] < speed["value"] < speed["upper_value"]
    assert measures["peak-memory"] == {"value": float(1250 << 20)}


def test_what_was_not_measured_is_left_out_of_trackers():
    new = make_side(times=(0.1,), first_step_s=None, operators=None, peaks=())
    measures = json.loads(ci.render_export("bencher", check(new)))["model.py"]
    assert set(measures) == {"throughput"}
    assert set(measures["throughput"]) == {"value"}  # one session has no interval
    assert json.loads(ci.render_export("github-action-benchmark", check(OTHER))) == []
