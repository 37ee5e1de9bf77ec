"""A check's verdict where CI users look: a comment, annotations, JUnit, trackers of benchmarks."""

import json
import re
from collections.abc import Iterator
from typing import Literal
from xml.etree import ElementTree as ET

from advisor.engine.conclusions import Conclusions
from advisor.gate.data import NEW, Comparison, Metric, Outcome, Verdict
from advisor.gate.plan import COMPARISON
from advisor.gate.question import CHECK
from advisor.gate.tell import NAMES, head_comparison, say_metric, say_outcome
from advisor.gate.verdict import estimate_level
from advisor.report.encoding import hide_controls
from advisor.report.markdown import render_markdown

Tracker = Literal["github-action-benchmark", "bencher"]

_UNITS: dict[Metric, str] = {
    "throughput": "s/sample",
    "peak_memory": "bytes",
    "largest_batch": "bytes",
    "operators": "operators",
    "first_step": "s",
}
#: What no XML may hold, however it is written.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_summary(conclusions: Conclusions) -> str:
    """Return the first screen, for a job's summary."""
    return render_markdown(CHECK, conclusions)


def render_comment(conclusions: Conclusions) -> str:
    """Return the same for a pull request, after a line that finds the last comment on it."""
    target = re.sub(r"[^\w./]+|--", "-", _name_target(conclusions))
    return f"<!-- bsadvisor check {target} -->\n{render_summary(conclusions)}"


def _name_target(conclusions: Conclusions) -> str:
    return conclusions.record.all(NEW)[0].setting.target


def is_worth_a_comment(found: Comparison) -> bool:
    """Return whether a metric changed: one that did not, or may not have, is no news."""
    return any(settle(found, each) in {"fail", "improved"} for each in found.verdicts)


def settle(found: Comparison, verdict: Verdict) -> Outcome:
    """Return the outcome of a metric, which a changed stack leaves open."""
    is_told = not found.differences or found.outcome != "inconclusive"
    return verdict.outcome if is_told or verdict.outcome == "not_measured" else "inconclusive"


def list_annotations(conclusions: Conclusions) -> Iterator[str]:
    """Yield a workflow command of GitHub for each metric that failed or is not told.

    None names a file: which line made a training slower is not known.
    """
    found = conclusions.of(COMPARISON)
    if found is None:
        return
    for each in found.verdicts:
        outcome, is_error = settle(found, each), each.policy.level == "error"
        if outcome == "fail" or (outcome == "inconclusive" and is_error):
            level = "error" if outcome == "fail" and is_error else "warning"
            text = _escape(describe(found, each))
            yield f"::{level} title=bsadvisor {NAMES[each.metric]}::{text}"
    if not found.verdicts:
        yield f"::warning title=bsadvisor::{_escape(_refuse(conclusions))}"


def describe(found: Comparison, verdict: Verdict) -> str:
    """Return a metric's verdict and its cause in a sentence."""
    outcome = say_outcome(verdict, settle(found, verdict))
    cause = "" if verdict.cause is None else f"; {verdict.cause.kind}: {verdict.cause.evidence}"
    stack = ", ".join(each.name for each in found.differences)
    changed = f"; env-changed: {stack}" if stack else ""
    return f"{outcome}: {say_metric(verdict)}{cause}{changed}"


def _refuse(conclusions: Conclusions) -> str:
    """Return why two sides that cannot be compared have no verdict."""
    return str(head_comparison(conclusions).missing)


def render_junit(conclusions: Conclusions) -> str:
    """Return a test suite with a case for each metric; what was not told is skipped.

    A message stands in the element as well: some readers show this one, some that.
    """
    found = conclusions.of(COMPARISON)
    assert found is not None
    suites = ET.Element("testsuites", name="bsadvisor")
    suite = ET.SubElement(suites, "testsuite", name="bsadvisor check")
    target = _clean(_name_target(conclusions))
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for name, kind, text in [*_list_cases(found)] or [
        ("comparison", "skipped", _refuse(conclusions))
    ]:
        counts["tests"] += 1
        case = ET.SubElement(suite, "testcase", classname=target, name=name)
        if kind:
            counts["failures" if kind == "failure" else kind] += 1
            said = _clean(text)
            ET.SubElement(case, kind, message=said).text = said
    for name, count in counts.items():
        suite.set(name, str(count))
        suites.set(name, str(count))
    ET.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, "unicode") + "\n"


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _list_cases(found: Comparison) -> Iterator[tuple[str, str, str]]:
    for each in found.verdicts:
        outcome = settle(found, each)
        kind = "skipped" if outcome in {"inconclusive", "not_measured"} else ""
        if outcome == "fail" and each.policy.level == "error":
            kind = "failure"
        yield each.metric, kind, describe(found, each)


def render_export(tracker: Tracker, conclusions: Conclusions) -> str:
    """Return the new side's figures as a tracker of benchmarks reads them."""
    found, new = conclusions.of(COMPARISON), conclusions.record.all(NEW)
    assert found is not None
    known = [each for each in found.verdicts if each.new is not None]
    if tracker == "bencher":
        measures = {}
        for each in known:
            level = estimate_level(each.metric, new)
            ends = {"lower_value": level and level.low, "upper_value": level and level.high}
            told = {name: end for name, end in ends.items() if end is not None}
            measures[each.metric.replace("_", "-")] = {"value": each.new, **told}
        return json.dumps({_name_target(conclusions): measures}, indent=2) + "\n"
    entries = [_make_entry(found, each, conclusions) for each in known]
    return json.dumps(entries, indent=2) + "\n"


def _make_entry(found: Comparison, verdict: Verdict, conclusions: Conclusions) -> dict[str, object]:
    """Return an entry of `customSmallerIsBetter`: of a speed the seconds of a sample."""
    new, metric = conclusions.record.all(NEW), verdict.metric
    level = estimate_level(metric, new, as_cost=True)
    cost = 1.0 / verdict.new if metric == "throughput" and verdict.new else verdict.new
    entry: dict[str, object] = {
        "name": f"{_name_target(conclusions)}: {metric}",
        "unit": _UNITS[metric],
        "value": cost,
        "extra": describe(found, verdict),
    }
    if level is not None and level.low is not None and level.high is not None:
        entry["range"] = f"± {(level.high - level.low) / 2.0:.3g}"
    return entry


def _escape(text: str) -> str:
    """Return the text as a workflow command takes it."""
    return hide_controls(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
