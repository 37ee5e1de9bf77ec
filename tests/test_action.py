"""The action and the snippet for GitLab: their shell steps run as CI runs them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
DOCUMENT = (ROOT / "docs" / "check.md").read_text()
#: As a runner starts `shell: bash`.
BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
MODEL = """
import torch

BASE_BATCH_SIZE = 8

def make_model():
    return torch.nn.Sequential({layers}torch.nn.Linear(8, 2))

def make_batch(batch_size):
    return torch.randn(batch_size, 8), torch.randint(2, (batch_size,))
"""
POLICY = """
[tool.bsadvisor.check]
throughput = "warn"
first_step = "warn"
"""
#: Far beyond any budget used here.
SECONDS = 240


def read_snippet(name):
    """Return the document of the first block of YAML in the section of the documentation."""
    section = DOCUMENT.partition(f"### {name}\n")[2]
    return yaml.safe_load(re.search(r"```yaml\n(.*?)```", section, re.DOTALL)[1])


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A model in a repository of two commits, of which the second has a layer more."""
    folder = tmp_path / "own"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    (folder / "pyproject.toml").write_text(POLICY)
    for layers in ("", "torch.nn.Linear(8, 8), "):
        (folder / "model.py").write_text(MODEL.format(layers=layers))
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", "a commit")
    return folder


def list_environment(*, python, **more):
    """Return the variables of a job with that Python, nothing personal among them."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BSADVISOR_", "GITHUB_"))}
    path = os.pathsep.join([str(Path(python).parent), kept["PATH"]])
    return {**kept, "PYTHONPATH": str(ROOT), "PATH": path, **more}


class Job:
    """The action's steps in a repository, and what they left."""

    def __init__(self, repository, **inputs):
        self.runner = repository.parent / "runner's folder"
        self.runner.mkdir()
        self.output, self.summary = self.runner / "output", self.runner / "summary"
        own = {
            "RUNNER_TEMP": str(self.runner),
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_OUTPUT": str(self.output),
            "GITHUB_STEP_SUMMARY": str(self.summary),
        }
        defaults = {name: each.get("default") for name, each in ACTION["inputs"].items()}
        self.inputs = {**defaults, "python": sys.executable, **inputs}
        (step,) = [step for step in ACTION["runs"]["steps"] if step.get("id") == "check"]
        given = {name: self._fill(text) for name, text in step["env"].items()}
        self.done = subprocess.run(
            [*BASH, step["run"]],
            cwd=repository,
            env=list_environment(python=self.inputs["python"], **own, **given),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        text = self.output.read_text() if self.output.exists() else ""
        self.outputs = dict(line.split("=", 1) for line in text.splitlines())

    def _fill(self, text):
        (name,) = re.fullmatch(r"\${{ inputs\.([\w-]+) }}", text).groups()
        return self.inputs[name]


def test_every_input_has_a_default_or_is_required():
    for name, each in ACTION["inputs"].items():
        assert each["description"], name
        assert each.get("required") or isinstance(each["default"], str), name
        assert f"`{name}`" in DOCUMENT


def test_no_input_is_put_into_a_script():
    """What a pull request names would be run else."""
    for step in ACTION["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"]


def test_every_output_is_written_by_the_step():
    (step,) = [step for step in ACTION["runs"]["steps"] if step.get("id") == "check"]
    for name, each in ACTION["outputs"].items():
        assert each["value"] == f"${{{{ steps.check.outputs.{name} }}}}"
        assert re.search(rf"\b{name}\b", step["run"]), name
        assert f"`{name}`" in DOCUMENT


def test_the_documented_workflow_gives_inputs_that_there_are():
    (job,) = read_snippet("GitHub")["jobs"].values()
    (own,) = [each for each in job["steps"] if "bsadvisor" in each.get("uses", "")]
    assert set(own["with"]) <= set(ACTION["inputs"])
    told = json.dumps(job)
    outputs = re.findall(rf"steps\.{own['id']}\.outputs\.([\w-]+)", told)
    assert outputs
    assert set(outputs) <= set(ACTION["outputs"])


#: Says what it was given, and ends as it is told to.
STAND_IN = """#!{python}
import json, os, pathlib, sys

words = sys.argv[1:]
pathlib.Path(os.environ["SEEN"]).write_text(json.dumps(words))
for name in json.loads(os.environ["WRITES"]):
    pathlib.Path(words[words.index("--" + name) + 1]).write_text("it")
sys.exit(int(os.environ["CODE"]))
"""


#: The command itself, to which two sessions a side are enough: what is exact is gated alone.
SHORT = """#!{python}
from advisor.cli import main
from advisor.gate import plan, stage

plan.LOOKS = stage.LOOKS = (2,)
main()
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment of Python's without a package."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin"


@pytest.fixture
def install(environment):
    """A function that makes this text the environment's command, and returns its Python."""

    def install(text):
        command = environment / "bsadvisor"
        command.write_text(text.format(python=sys.executable))
        command.chmod(0o755)
        return str(environment / "python")

    return install


@pytest.fixture
def run_stand_in(repository, install, monkeypatch):
    """A function: an exit code goes in, the job and the command's words come out."""
    python, seen = install(STAND_IN), repository.parent / "seen.json"

    def run(code=0, *, writes=("json", "junit"), **inputs):
        monkeypatch.setenv("SEEN", str(seen))
        monkeypatch.setenv("CODE", str(code))
        monkeypatch.setenv("WRITES", json.dumps(writes))
        job = Job(repository, python=python, **inputs)
        return job, json.loads(seen.read_text()) if seen.exists() else None

    return run


@pytest.mark.parametrize(
    ("code", "inputs", "ends", "verdict", "told"),
    [
        (0, {}, 0, "pass", ""),
        (1, {}, 1, "fail", ""),
        (2, {}, 2, "error", ""),
        (3, {}, 0, "inconclusive", "::warning title=bsadvisor::INCONCLUSIVE"),
        (3, {"fail-on-inconclusive": "true"}, 3, "inconclusive", "::warning title=bsadvisor::"),
        (4, {}, 4, "no-baseline", "::error title=bsadvisor::There is nothing to compare with."),
        (70, {}, 70, "error", ""),
        (130, {}, 130, "error", ""),
    ],
)
def test_the_job_ends_by_the_verdict(run_stand_in, code, inputs, ends, verdict, told):
    job, _ = run_stand_in(code, arguments="model.py", **inputs)
    assert (job.done.returncode, job.done.stderr) == (ends, "")
    assert job.done.stdout.startswith(told)
    assert bool(job.done.stdout) is bool(told)
    assert (job.outputs["verdict"], job.outputs["exit-code"]) == (verdict, str(code))
    assert Path(job.outputs["json"]).read_text() == "it"
    assert job.outputs["comment"] == ""


def test_the_words_reach_the_command_as_a_shell_reads_them(run_stand_in):
    job, words = run_stand_in(
        arguments="'my train.py' -- --name \"a b\" --glob * $(touch owned) {batch_size}",
        options="--budget 10m --set 'x=1 2'",
        baseline="the base",
    )
    assert job.done.returncode == 0, job.done.stderr
    assert words[0] == "check"
    at = words.index("--baseline")
    assert words[at:] == [
        *("--baseline", "the base", "--budget", "10m", "--set", "x=1 2", "my train.py", "--"),
        *("--name", "a b", "--glob", "*", "$(touch", "owned)", "{batch_size}"),
    ]
    assert not (job.runner.parent / "own" / "owned").exists()


def test_a_comment_is_told_where_there_is_one(run_stand_in, repository):
    own = repository / "comment.md"
    own.write_text("of an earlier check")
    job, _ = run_stand_in(0, arguments="model.py", comment="comment.md")
    assert job.outputs["comment"] == ""
    assert not own.exists()
    job.runner.rename(job.runner.with_name("before"))
    job, _ = run_stand_in(
        1, arguments="model.py", comment="comment.md", writes=("json", "junit", "comment")
    )
    assert job.outputs["comment"] == "comment.md"
    assert own.read_text() == "it"


def test_what_a_shallow_checkout_lacks_is_fetched(run_stand_in, repository):
    whole = repository.with_name("whole")
    repository.rename(whole)
    git(whole, "branch", "before", "HEAD~1")
    git(whole.parent, "clone", "--quiet", "--depth=1", f"file://{whole}", str(repository))
    commits = [git(whole, "rev-parse", name) for name in ("before", "HEAD")]
    for against in ("before", "origin/before", commits[0]):
        job, words = run_stand_in(arguments="model.py", against=against)
        assert job.done.returncode == 0, job.done.stderr
        assert words[words.index("--against") + 1] == commits[0] or against == commits[0]
        job.runner.rename(job.runner.with_name(f"before {against.replace('/', ' ')}"))
    job, _ = run_stand_in(arguments="model.py", against="HEAD~7")
    assert job.done.returncode == 2
    assert "git knows no HEAD~7" in job.done.stdout


@pytest.mark.slow
def test_the_action_checks_a_commit_against_the_one_before(repository, install):
    given = {"arguments": "model.py", "against": "HEAD~1", "options": "--budget 90s"}
    job = Job(repository, python=install(SHORT), **given)
    assert job.done.returncode in {0, 1}, job.done.stderr
    code = int(job.outputs["exit-code"])
    verdicts = {0: "pass", 1: "fail", 3: "inconclusive"}
    assert job.outputs["verdict"] == verdicts[code]
    document = json.loads(Path(job.outputs["json"]).read_text())
    outcome = document["derived"]["comparison"]["outcome"]
    assert {"improved": "pass", "not_measured": "inconclusive"}.get(outcome, outcome) == (
        verdicts[code]
    )
    assert document["new"][0]["operators"] > document["old"][0]["operators"]
    assert job.summary.read_text().startswith("### ")
    assert "| operators |" in job.summary.read_text()
    assert "::warning title=bsadvisor operators::warning: operators" in job.done.stderr
    assert ET.parse(job.outputs["junit"]).getroot().tag == "testsuites"
    comment = Path(job.outputs["comment"]).read_text()
    assert comment.startswith("<!-- bsadvisor check model.py -->\n### ")
    assert git(repository, "worktree", "list").count("\n") == 0


@pytest.mark.slow
def test_the_action_says_what_to_do_without_a_baseline(repository):
    job = Job(repository, arguments="model.py", options="--budget 90s")
    assert (job.done.returncode, job.outputs["verdict"]) == (4, "no-baseline"), job.done.stderr
    assert "there is no baseline of model.py" in job.done.stderr
    assert job.outputs["junit"] == ""
    assert not job.summary.exists()


@pytest.mark.slow
def test_the_snippet_for_gitlab_checks_a_merge_request(repository, install):
    (job,) = read_snippet("GitLab").values()
    variables = {
        **{name: str(value) for name, value in job["variables"].items()},
        "BUDGET": "90s",
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": git(repository, "rev-parse", "HEAD~1"),
    }
    done = subprocess.run(
        [*BASH, "\n".join(job["script"])],
        cwd=repository,
        env=list_environment(python=install(SHORT), **variables),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode in {0, 1, 3}, done.stderr
    assert job["allow_failure"]["exit_codes"] == [3]
    cases = ET.parse(repository / job["artifacts"]["reports"]["junit"]).getroot().iter("testcase")
    assert {case.get("name") for case in cases} >= {"throughput", "peak_memory", "operators"}
    (summary,) = job["artifacts"]["paths"]
    assert (repository / summary).read_text().startswith("### ")
    assert "::" not in done.stderr
