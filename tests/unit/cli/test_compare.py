"""`bsadvisor compare`: exit codes, sides of several files, and where results go."""

import json
from xml.etree import ElementTree as ET

import msgspec
import pytest
from typer.testing import CliRunner

from advisor.cli import app
from tests.unit.gate.checked import make_side, write_baseline, write_check
from tests.unit.gate.sides import SETTING, change_environment


def change(**fields):
    return msgspec.structs.replace(SETTING, **fields)


@pytest.fixture
def old(empty_folder, monkeypatch):
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    return write_baseline(empty_folder / "old.json").name


@pytest.fixture
def new(empty_folder):
    """A function: a side goes in, the name of its file comes out."""

    def write(side, name="new.json", **slots):
        return write_check(empty_folder / name, side, **slots).name

    return write


def compare(*arguments):
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.mark.parametrize(
    ("side", "options", "code", "answer"),
    [
        (make_side(), [], 0, "PASS: throughput as it was"),
        (make_side(0.7), [], 0, "IMPROVED: throughput 30 % faster"),
        (make_side(1.25), [], 1, "FAIL: throughput 25 % slower"),
        (make_side(times=(0.1, 0.3, 0.1)), [], 3, "INCONCLUSIVE: throughput"),
        (make_side(1.25, product_s=(0.0125,)), [], 3, "INCONCLUSIVE: throughput 25 % slower"),
        (make_side(1.25, setting=change_environment(torch="2.10")), [], 3,
         "INCONCLUSIVE: env-changed (torch)"),
        (make_side(1.25, setting=change_environment(torch="2.10")), ["--gate-env-changed"], 1,
         "FAIL: throughput 25 % slower"),
        (make_side(setting=change(precision="bf16")), [], 4, "No verdict"),
        (make_side(setting=change(arguments=("--lr", "1"))), [], 4, "No verdict"),
    ],
)  # fmt: skip
def test_the_exit_code_is_the_verdict(old, new, side, options, code, answer):
    done = compare(old, new(side), *options)
    assert (done.exit_code, done.stdout.startswith(answer)) == (code, True), done.output


def test_files_of_two_devices_are_never_compared(old, new):
    device = msgspec.structs.replace(SETTING.environment.device, name="Other")
    done = compare(old, new(make_side(setting=change_environment(device=device))))
    assert done.exit_code == 4
    assert "device Other, was It" in done.stdout
    assert "the two sides cannot be compared: device Other, was It." in done.stderr


def test_a_file_compared_with_itself_is_what_it_was(old):
    done = compare(old, old)
    assert done.exit_code == 0
    assert "throughput as it was" in done.stdout


def test_sides_of_several_files_are_taken_together(old, new):
    for number in range(3):
        new(make_side(1.25, times=(0.1, 0.1003, 0.0998)), f"new{number}.json")
    done = compare(old, old, "--new", "new0.json", "--new", "new1.json", "--new", "new2.json",
                   "--json", "-")  # fmt: skip
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["derived"]["comparison"]["sessions"] == [16, 9]
    done = compare(old, old, "new0.json", "--full")
    assert done.exit_code == 1
    assert "16 sessions" in done.stdout


def test_one_file_is_no_comparison(old):
    done = compare(old)
    assert done.exit_code == 2
    assert "one file alone cannot be compared" in done.stderr


def test_the_batch_must_be_one_that_all_timed(old, new):
    other = new(make_side(setting=change(micro_batch_size=64)))
    done = compare(old, other)
    assert done.exit_code == 2
    assert "the files have no batch in common" in done.stderr
    done = compare(old, new(make_side()), "--micro-batch-size", "64")
    assert done.exit_code == 2
    assert "batch 64 was not timed in every file" in done.stderr


def test_the_project_says_what_each_metric_may_lose(empty_folder, old, new):
    (empty_folder / "pyproject.toml").write_text(
        "[tool.bsadvisor.check]\nthroughput = { threshold = 0.5 }\npeak_memory = 'off'\n"
    )
    done = compare(old, new(make_side(1.25, peaks=((32, 2000 << 20), (64, 1500 << 20)))))
    assert done.exit_code == 0
    assert "peak memory" not in done.stdout


FORMS = ("--json", "--markdown", "--comment", "--junit", "--export=bencher",
         "--export=github-action-benchmark")  # fmt: skip


def name_option(form, path):
    return [f"{form}={path}"]


@pytest.mark.parametrize("form", FORMS)
def test_what_goes_to_stdout_stands_there_alone(old, new, form):
    done = compare(old, new(make_side(1.25)), *name_option(form, "-"))
    assert done.exit_code == 1
    assert "Everything else" not in done.stdout
    if form == "--junit":
        assert ET.fromstring(done.stdout.encode()).tag == "testsuites"
    elif form in {"--markdown", "--comment"}:
        assert done.stdout.startswith("### FAIL" if form == "--markdown" else "<!-- bsadvisor")
    else:
        json.loads(done.stdout)


@pytest.mark.parametrize("one", FORMS)
@pytest.mark.parametrize("other", FORMS)
@pytest.mark.parametrize("path", ["-", "same"])
def test_two_results_never_go_to_one_place(old, new, one, other, path):
    if one >= other:
        return
    options = [
        *name_option(one, path),
        *name_option(other, f"./{path}" if path == "same" else path),
    ]
    done = compare(old, new(make_side()), *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "both go to" in done.stderr


@pytest.mark.parametrize("form", FORMS)
def test_no_result_goes_to_a_file_that_is_compared(empty_folder, old, new, form):
    before = (empty_folder / old).read_bytes()
    done = compare(old, new(make_side()), *name_option(form, old))
    assert done.exit_code == 2
    assert "is read by this command" in done.stderr
    assert (empty_folder / old).read_bytes() == before


@pytest.mark.parametrize("form", FORMS)
def test_what_cannot_be_written_is_refused_before_anything_is_read(old, form):
    done = compare(old, "missing.json", *name_option(form, "nowhere/file"))
    assert done.exit_code == 2
    assert "nowhere does not exist" in done.stderr


@pytest.mark.parametrize("text", ["bencher", "bencher=", "other=file", "=file", ""])
def test_an_export_names_a_format_and_a_file(old, text):
    done = compare(old, old, "--export", text)
    assert done.exit_code == 2
    assert "FORMAT=FILE expected" in done.stderr
    assert "github-action-benchmark, bencher" in done.stderr


def test_a_comment_is_written_on_a_change_alone(empty_folder, old, new):
    comment = empty_folder / "comment.md"
    assert compare(old, new(make_side()), "--comment", comment).exit_code == 0
    assert not comment.exists()
    assert compare(old, new(make_side(1.25)), "--comment", comment).exit_code == 1
    assert comment.read_text().startswith("<!-- bsadvisor check model.py -->\n### FAIL")


def test_github_gets_a_summary_and_annotations(empty_folder, old, new, monkeypatch):
    summary = empty_folder / "summary"
    summary.write_text("of a step before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    done = compare(old, new(make_side(1.25)))
    assert done.exit_code == 1
    assert "::error title=bsadvisor throughput::FAIL: throughput 25 %25 slower" in done.stderr
    assert "::" not in done.stdout
    first, _, rest = summary.read_text().partition("\n")
    assert first == "of a step before"
    assert rest.startswith("### FAIL: throughput 25 % slower")
    compare(old, new(make_side()))
    assert summary.read_text().count("### ") == 2


@pytest.mark.parametrize("place", [".", "missing/summary"])
def test_a_summary_that_cannot_be_written_changes_no_verdict(old, new, monkeypatch, place):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", place)
    done = compare(old, new(make_side(1.25)))
    assert done.exit_code == 1
    assert "the summary of the job cannot be written" in done.stderr


def test_elsewhere_there_are_no_annotations(old, new):
    assert "::" not in compare(old, new(make_side(1.25))).output


def test_quiet_is_the_headline_alone(old, new):
    done = compare(old, new(make_side(1.25)), "--quiet")
    assert done.stdout == "FAIL: throughput 25 % slower (24.6 to 25.4 %)\n"
