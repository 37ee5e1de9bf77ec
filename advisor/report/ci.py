"""A check's verdict where CI users look: a comment, annotations, JUnit, trackers of benchmarks."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple, get_args
from xml.etree import ElementTree as ET

from advisor.engine.record import Conclusions
from advisor.gate.data import NEW, Metric, Outcome, Verdict, merge
from advisor.gate.plan import COMPARISON
from advisor.gate.stage import CHECK
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


#: What JUnit counts, and the element that is counted.
_COUNTS = {"tests": "tests", "failures": "failure", "errors": "error", "skipped": "skipped"}
_OPEN: set[Outcome] = {"inconclusive", "not_measured"}


class _Case(NamedTuple):
    """A metric's verdict, its outcome, which a changed stack leaves open, and it in words."""

    verdict: Verdict
    outcome: Outcome
    text: str

    @property
    def fails(self) -> bool:
        """Whether the check fails by it."""
        return self.outcome == "fail" and self.verdict.policy.level == "error"


def _list_cases(conclusions: Conclusions) -> Iterator[_Case]:
    found = conclusions.of(COMPARISON)
    if found is None:
        return
    is_told = not found.differences or found.outcome != "inconclusive"
    stack = ", ".join(each.name for each in found.differences)
    changed = f"; env-changed: {stack}" if stack else ""
    for each in found.verdicts:
        is_settled = is_told or each.outcome == "not_measured"
        outcome = each.outcome if is_settled else "inconclusive"
        cause = "" if each.cause is None else f"; {each.cause.kind}: {each.cause.evidence}"
        said = f"{say_outcome(each, outcome)}: {say_metric(each)}"
        yield _Case(each, outcome, f"{said}{cause}{changed}")


def render_comment(conclusions: Conclusions) -> str:
    """Return the first screen, after a line that finds the last comment on a pull request."""
    target = re.sub(r"[^\w./]+|--", "-", _name_target(conclusions))
    return f"<!-- bsadvisor check {target} -->\n{render_markdown(CHECK, conclusions)}"


def _name_target(conclusions: Conclusions) -> str:
    return conclusions.record.all(NEW)[0].setting.target


def is_worth_a_comment(conclusions: Conclusions) -> bool:
    """Return whether a metric changed: one that did not, or may not have, is no news."""
    return any(each.outcome in {"fail", "improved"} for each in _list_cases(conclusions))


def list_annotations(conclusions: Conclusions) -> Iterator[str]:
    """Yield a workflow command of GitHub for each metric that failed or is not told.

    None names a file: which line made a training slower is not known.
    """
    cases = [*_list_cases(conclusions)]
    for each in cases:
        is_open = each.outcome == "inconclusive" and each.verdict.policy.level == "error"
        if each.outcome == "fail" or is_open:
            level = "error" if each.fails else "warning"
            name = NAMES[each.verdict.metric]
            yield f"::{level} title=bsadvisor {name}::{_escape(each.text)}"
    if not cases:
        yield f"::warning title=bsadvisor::{_escape(_refuse(conclusions))}"


def _refuse(conclusions: Conclusions) -> str:
    """Return why two sides that cannot be compared have no verdict."""
    return str(head_comparison(conclusions).missing)


def render_junit(conclusions: Conclusions) -> str:
    """Return a test suite with a case for each metric; what was not told is skipped.

    A message stands in the element as well: some readers show this one, some that.
    """
    suites = ET.Element("testsuites", name="bsadvisor")
    suite = ET.SubElement(suites, "testsuite", name="bsadvisor check")
    target, kinds = _clean(_name_target(conclusions)), Counter[str]()
    cases: list[tuple[str, str, str]] = [
        (
            each.verdict.metric,
            "failure" if each.fails else "skipped" * (each.outcome in _OPEN),
            each.text,
        )
        for each in _list_cases(conclusions)
    ]
    for name, kind, text in cases or [("comparison", "skipped", _refuse(conclusions))]:
        case = ET.SubElement(suite, "testcase", classname=target, name=name)
        kinds.update(["tests", kind])
        if kind:
            said = _clean(text)
            ET.SubElement(case, kind, message=said).text = said
    for element in (suite, suites):
        element.attrib.update({count: str(kinds[kind]) for count, kind in _COUNTS.items()})
    ET.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, "unicode") + "\n"


def _clean(text: str) -> str:
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def render_export(tracker: Tracker, conclusions: Conclusions) -> str:
    """Return the new side's figures as a tracker of benchmarks reads them."""
    new, target = merge(conclusions.record.all(NEW)), _name_target(conclusions)
    known = [each for each in _list_cases(conclusions) if each.verdict.new is not None]
    if tracker == "bencher":
        measures = {}
        for verdict in (each.verdict for each in known):
            level = estimate_level(verdict.metric, new)
            ends = {"lower_value": level and level.low, "upper_value": level and level.high}
            told = {name: end for name, end in ends.items() if end is not None}
            measures[verdict.metric.replace("_", "-")] = {"value": verdict.new, **told}
        return json.dumps({target: measures}, indent=2) + "\n"
    entries = []  # of `customSmallerIsBetter`: of a speed the seconds of a sample
    for verdict, _, text in known:
        metric, value = verdict.metric, verdict.new
        cost = 1.0 / value if metric == "throughput" and value else value
        entry = {"name": f"{target}: {metric}", "unit": _UNITS[metric], "value": cost}
        level = estimate_level(metric, new, as_cost=True)
        if level is not None and level.low is not None and level.high is not None:
            entry["range"] = f"± {(level.high - level.low) / 2.0:.3g}"
        entries.append({**entry, "extra": text})
    return json.dumps(entries, indent=2) + "\n"


def _escape(text: str) -> str:
    """Return the text as a workflow command takes it."""
    return hide_controls(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


#: What is written, by the option that names the file.
RENDERERS: dict[str, Callable[[Conclusions], str]] = {
    "--comment": render_comment,
    "--junit": render_junit,
    **{f"--export {tracker}": partial(render_export, tracker) for tracker in get_args(Tracker)},
}
