"""`bsadvisor check --against REF` in a repository of its own: both revisions, and nothing left."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from advisor.gate import plan, stage
from tests.integration.probe_command import ROOT, heed_interrupts

pytestmark = pytest.mark.slow

MODEL = """
import torch
from pathlib import Path
from layers import make_layers

SCALE = float(Path("data/scale.txt").read_text())


def make_model():
    return make_layers()


def make_batch(batch_size):
    return SCALE * torch.randn(batch_size, 8), torch.randint(2, (batch_size,))
"""
LAYERS = """
import torch

def make_layers():
    return torch.nn.Sequential({layers}torch.nn.Linear(8, 2))
"""
LAYER = "torch.nn.Linear(8, 8), "
SECONDS = 60


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path):
    """A model in `src` of a repository, its data ignored by git; one layer more since."""
    folder = tmp_path / "own"
    folder.mkdir()
    git(folder, "init", "--quiet")
    for name, text in {
        "train/model.py": MODEL,
        "train/layers.py": LAYERS.format(layers=""),
        "train/data/scale.txt": "0.5",
        ".gitignore": "data/\n",
        "requirements.txt": "torch\n",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    (folder / "train" / "layers.py").write_text(LAYERS.format(layers=LAYER))
    return folder


@pytest.fixture
def check(run_command, monkeypatch):
    """A function: `check` where the model is; two sessions a side tell whose turn it is."""
    monkeypatch.setattr(stage, "LOOKS", (2,))
    monkeypatch.setattr(plan, "LOOKS", (2,))

    def run(folder, *arguments):
        monkeypatch.chdir(folder / "train")
        return run_command("check", *arguments)

    return run


def assert_nothing_is_left(folder):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        trees = git(folder, "worktree", "list", "--porcelain").count("worktree ")
        if trees == 1 and not list((folder / ".git").glob("worktrees/*")):
            return
        time.sleep(0.1)
    raise AssertionError(git(folder, "worktree", "list"))


def test_each_side_runs_its_own_code_with_the_same_data(repository, check):
    (repository / "requirements.txt").write_text("torch>=2\n")
    (repository / "train" / "extra.py").write_text("")
    before = git(repository, "status", "--porcelain"), git(repository, "stash", "list")
    out = repository.parent / "out.json"
    done = check(repository, "model.py", "--against", "HEAD", "--json", str(out))
    assert done.exit_code in {0, 1, 3}, done.stderr
    document = json.loads(out.read_text())
    (old,), (new,) = document["old"], document["new"]
    assert new["operators"] > old["operators"] > 0
    assert not old["revision"]["is_changed"]
    assert new["revision"]["is_changed"]
    numbers = [[session["number"] for session in side["sessions"]] for side in (old, new)]
    assert numbers == [[1, 4], [2, 3]]
    assert "requirements.txt differs between the revisions" in done.stderr
    assert "extra.py is not known to git" in done.stderr
    assert (git(repository, "status", "--porcelain"), git(repository, "stash", "list")) == before
    assert_nothing_is_left(repository)


def test_a_commit_is_compared_with_the_one_before(repository, check):
    git(repository, "commit", "--quiet", "-am", "two")
    out = repository.parent / "out.json"
    done = check(repository, "model.py", "--against=HEAD~1", "--json", str(out))
    assert done.exit_code in {0, 1, 3}, done.stderr
    document = json.loads(out.read_text())
    (old,), (new,) = document["old"], document["new"]
    assert new["operators"] > old["operators"]
    assert new["revision"]["commit"] == git(repository, "rev-parse", "HEAD").strip()
    assert not new["revision"]["is_changed"]
    assert_nothing_is_left(repository)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_no_worktree_and_no_process_stays(repository, end):
    process = subprocess.Popen(
        [sys.executable, "-m", "advisor.cli", "check", "model.py", "--against", "HEAD"],
        cwd=repository / "train",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + SECONDS
    while len(list((repository / ".git").glob("worktrees/*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(end)
    process.wait(SECONDS)
    assert_nothing_is_left(repository)
    _, alive = psutil.wait_procs(family, timeout=SECONDS)
    assert alive == []


def test_names_that_are_no_text_and_submodules_are_in_both_sides(repository, check):
    part = repository.parent / "part"
    part.mkdir()
    git(part, "init", "--quiet")
    (part / "part.py").write_text("")
    git(part, "add", ".")
    git(part, "commit", "--quiet", "-m", "one")
    local = ("-c", "protocol.file.allow=always")
    git(repository, *local, "submodule", "--quiet", "add", str(part), "train/part")
    model = repository / "train" / "model.py"
    model.write_text("from part import part\n" + MODEL)
    git(repository, "commit", "--quiet", "-am", "two")
    (repository / "train" / "data" / os.fsdecode(b"no\xe9text")).write_text("")
    (repository / os.fsdecode(b"no\xe9text.py")).write_text("")
    done = check(repository, "model.py", "--against", "HEAD")
    assert done.exit_code in {0, 1, 3}, done.stderr
    assert_nothing_is_left(repository)


def test_a_failing_side_is_told_where_its_code_is_kept(repository, check):
    model = repository / "train" / "model.py"
    model.write_text(MODEL.replace("make_layers()\n", "undefined()\n"))
    done = check(repository, "model.py", "--against", "HEAD")
    assert done.exit_code == 5
    assert f"{model}:" in done.stderr
    assert "/new/" not in done.stderr
    git(repository, "commit", "--quiet", "-am", "two")
    model.write_text(MODEL)
    done = check(repository, "model.py", "--against", "HEAD")
    assert done.exit_code == 5
    assert "HEAD:train/model.py:" in done.stderr
    assert "/old/" not in done.stderr
    assert_nothing_is_left(repository)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("model.py", "--against", "nowhere"), "git knows no commit nowhere"),
        (("model.py", "--against=--output=x"), "git knows no commit --output=x"),
        (("extra.py", "--against", "HEAD"), "is not in HEAD"),
        (("model.py", "--against", "HEAD", "--ratchet"), "takes no baseline"),
    ],
)
def test_what_cannot_be_checked_out_is_a_usage_error(repository, check, arguments, said):
    (repository / "train" / "extra.py").write_text(MODEL)
    done = check(repository, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert_nothing_is_left(repository)


def test_code_that_an_editable_install_leads_elsewhere_is_refused(repository, check):
    """As its finder does, a module comes from the repository whatever the path says."""
    model = repository / "train" / "model.py"
    finder = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("layers", {str(model.with_name("layers.py"))!r})
module = sys.modules["layers"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""
    model.write_text(finder + MODEL)
    git(repository, "commit", "--quiet", "-am", "two")
    done = check(repository, "model.py", "--against", "HEAD")
    assert done.exit_code == 2, done.stderr
    assert "layers was loaded from" in done.stderr
    assert_nothing_is_left(repository)


def test_a_folder_without_git_says_so(tmp_path, check):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "model.py").write_text(MODEL)
    done = check(tmp_path, "model.py", "--against", "HEAD")
    assert done.exit_code == 2
    assert "no git repository" in done.stderr
