"""A check's verdict where CI users look: Markdown, a comment, annotations, JUnit, trackers."""

import json
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from advisor.engine.conclusions import Conclusions
from advisor.gate.data import NEW, Comparison, Verdict
from advisor.gate.plan import COMPARISON
from advisor.gate.tell import NAMES, OUTCOMES, head_comparison, tell_comparison

#: Finds the last comment, so that there is one and not many.
MARKER = "<!-- bsadvisor check -->"
_UNITS = {
    "throughput": "samples/s",
    "peak_memory": "bytes",
    "largest_batch": "bytes",
    "operators": "operators",
    "first_step": "s",
}


def render_markdown(conclusions: Conclusions) -> str:
    """Return the verdict with its table, for a job's summary."""
    told = tell_comparison(conclusions)
    lines = [f"### bsadvisor: {head_comparison(conclusions).answer}", ""]
    for table in told.tables:
        headers = [column.header or " " for column in table.columns]
        marks = [":--" if column.justify == "left" else "--:" for column in table.columns]
        lines += [_row(headers), _row(marks), *map(_row, table.rows), ""]
    lines += [f"- **{row.label}** {row.text}" for row in told.rows]
    return "\n".join(lines) + "\n"


def render_comment(conclusions: Conclusions) -> str:
    """Return the same with the marker, for a pull request."""
    return f"{MARKER}\n{render_markdown(conclusions)}"


def is_worth_a_comment(found: Comparison) -> bool:
    """Return whether a metric changed: one that did not is no news."""
    return any(each.outcome in {"fail", "improved"} for each in found.verdicts)


def list_annotations(conclusions: Conclusions) -> Iterator[str]:
    """Yield a workflow command of GitHub for each metric that failed or is not told."""
    found = conclusions.of(COMPARISON)
    for each in found.verdicts if found is not None else ():
        level = _find_annotation_level(each)
        if level:
            yield f"::{level} title=bsadvisor {NAMES[each.metric]}::{_escape(describe(each))}"


def describe(verdict: Verdict) -> str:
    """Return a metric's verdict and its cause in a sentence."""
    change = verdict.change
    size = "" if change is None or change.point is None else f" {100.0 * change.point:+.1f} %"
    cause = "" if verdict.cause is None else f"; {verdict.cause.kind}: {verdict.cause.evidence}"
    remark = f" ({verdict.remark})" if verdict.remark else ""
    return f"{OUTCOMES[verdict.outcome]}{size}{remark}{cause}"


def render_junit(found: Comparison) -> str:
    """Return a test suite with a case for each metric; what was not told is skipped."""
    suite = ET.Element("testsuite", name="bsadvisor check", tests=str(len(found.verdicts)))
    counts = {"failures": 0, "skipped": 0}
    for each in found.verdicts:
        case = ET.SubElement(
            suite, "testcase", classname="bsadvisor.check", name=NAMES[each.metric]
        )
        if each.outcome == "fail" and each.policy.level == "error":
            counts["failures"] += 1
            ET.SubElement(case, "failure", message=describe(each))
        elif each.outcome in {"inconclusive", "not_measured"}:
            counts["skipped"] += 1
            ET.SubElement(case, "skipped", message=describe(each))
    for name, count in counts.items():
        suite.set(name, str(count))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def render_export(name: str, conclusions: Conclusions) -> str:
    """Return the new side's figures as a tracker of benchmarks reads them."""
    found, new = conclusions.of(COMPARISON), conclusions.record.all(NEW)
    assert found is not None
    known = [each for each in found.verdicts if each.new is not None]
    target = new[0].setting.target
    if name == "bencher":  # Bencher Metric Format
        measures = {each.metric.replace("_", "-"): {"value": each.new} for each in known}
        return json.dumps({target: measures}, indent=2) + "\n"
    entries = [
        {
            "name": f"{target}: {NAMES[each.metric]}",
            # The tool wants one direction for all: seconds of a sample, where less is better.
            "unit": "s/sample" if each.metric == "throughput" else _UNITS[each.metric],
            "value": 1.0 / each.new if each.metric == "throughput" and each.new else each.new,
            "extra": describe(each),
        }
        for each in known
    ]
    return json.dumps(entries, indent=2) + "\n"


def _find_annotation_level(verdict: Verdict) -> str:
    if verdict.outcome == "fail":
        return "error" if verdict.policy.level == "error" else "warning"
    return "warning" if verdict.outcome == "inconclusive" else ""


def _row(cells: "list[str] | tuple[str, ...]") -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _escape(text: str) -> str:
    """Return the text as a workflow command takes it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
