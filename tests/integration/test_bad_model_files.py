"""Whatever the file does, the command ends with the right code, a short word and no child."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from advisor.cli.failures import write_failure
from advisor.engine.runner import Runner
from advisor.engine.task import InspectTask
from advisor.errors import AdvisorError
from advisor.training.data import WorkloadSpec
from tests.integration.conftest import list_children, see_end_of_children
from tests.integration.probe_command import ROOT, run_probe

_FOLDER = Path("tests/workloads/bad")
_PACKAGE = str(ROOT / "advisor")

#: Lines of a message, the user's traceback not counted.
_MOST_LINES = 12

# Written by the test: a file that does not parse would stop every tool that reads the repository.
_BROKEN_SOURCE = "import torch\n\ndef make_model(:\n    return torch.nn.Linear(8, 3)\n"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model file and what must be said about it.

    Attributes:
        fragments: Found in the message, which starts at `bsadvisor:`.
        has_traceback: Whether the user's own traceback comes before it.
        timeout_s: What its inspection gets.
        options: Of the command.
    """

    file: str
    fragments: tuple[str, ...]
    exit_code: int = 5
    has_traceback: bool = False
    timeout_s: float = 60.0
    options: tuple[str, ...] = ()


#: What a look at the file finds, and what ends or holds the worker that looks.
SEEN_BY_INSPECTION = (
    Case(file="syntax_error.py", fragments=("syntax_error.py:3", "syntax"), has_traceback=True),
    Case(file="missing_import.py", fragments=("no_such_package_anywhere",), has_traceback=True),
    Case(file="sys_exit_at_import.py", fragments=("sys.exit", "DATA"), has_traceback=True),
    Case(file="no_names.py", fragments=("make_model", "found none", "    def make_model():")),
    Case(file="no_data.py", fragments=("make_dataset", "make_batch")),
    Case(file="empty_dataset.py", fragments=("dataset is empty",)),
    Case(file="batch_size_ignored.py", fragments=("batch size is ignored", "make_batch")),
    Case(file="shape_error.py", fragments=("shape_error.py:13", "2x9 and 8x3"), has_traceback=True),
    Case(file="non_scalar_loss.py", fragments=("shape (2,)", "loss.mean()")),
    Case(file="loss_without_grad.py", fragments=("no gradient", ".detach()")),
    Case(file="nan_loss.py", fragments=("loss is nan", "first step")),
    Case(file="unpicklable_exception.py", fragments=("HostileError",), has_traceback=True),
    Case(file="hang_at_import.py", fragments=("did not finish", "__main__"), timeout_s=4.0),
    Case(
        file="hang.py",
        fragments=("did not finish", "hang.py:", "in forward", "--budget"),
        timeout_s=4.0,
    ),
    Case(file="exit_in_make_model.py", fragments=("exit status 0",)),
    Case(file="exit_in_forward.py", fragments=("exit status 0",)),
    Case(file="segfault.py", fragments=("SIGSEGV", "segfault.py:11")),
    Case(file="sigkill_self.py", fragments=("SIGKILL",)),
)
#: What comes later.
SEEN_BY_PROBES = (
    Case(
        file="nothing_fits.py",
        fragments=("128 MiB",),
        exit_code=6,
        options=("--memory-limit", "128MiB", "--headroom", "0"),
    ),
    Case(
        file="failure_at_step_five.py",
        fragments=("LookupError", "step five"),
        has_traceback=True,
        options=("--max-batch", "8"),
    ),
    Case(
        file="spawns_children.py",
        fragments=("did not finish", "make_model"),
        options=("--budget", "6s"),
    ),
)


def _target(case: Case, directory: Path) -> str:
    if case.file != "syntax_error.py":
        return str(_FOLDER / case.file)
    path = directory / case.file
    path.write_text(_BROKEN_SOURCE)
    return str(path)


def _check_words(case: Case, stderr: str) -> None:
    """See that the message is short, names the file and ends in what to do.

    The traceback before it is the user's own, from its first line.
    """
    _, separator, rest = f"\n{stderr}".partition("\nbsadvisor: ")
    assert separator, stderr
    message = rest.rstrip()
    assert 2 <= len(message.splitlines()) <= _MOST_LINES, stderr
    assert case.file in message
    for fragment in case.fragments:
        assert fragment in message
    files = re.findall(r'File "([^"]+)", line \d+', stderr)
    assert [file for file in files if file.startswith(_PACKAGE)] == []
    if case.has_traceback:
        assert Path(files[0]).name == case.file, stderr
        assert stderr.count("Traceback (most recent call last)") <= 1
    else:
        assert files == [], stderr


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.file[:-3], marks=[pytest.mark.slow] * (case.timeout_s < 60.0))
        for case in SEEN_BY_INSPECTION
    ],
)
def test_inspection_says_what_is_wrong(case: Case, runner: Runner, tmp_path: Path, capsys) -> None:
    spec = WorkloadSpec(target=_target(case, tmp_path), device="cpu")
    before = list_children()
    with pytest.raises(AdvisorError) as failure:
        runner.run(InspectTask(workload=spec), timeout_s=case.timeout_s)
    see_end_of_children(before)
    capsys.readouterr()  # what the user's code printed
    write_failure(failure.value)
    assert failure.value.exit_code == case.exit_code
    _check_words(case, capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("case", SEEN_BY_PROBES, ids=lambda case: case.file[:-3])
def test_a_probe_says_what_is_wrong_and_leaves_nothing(case: Case, run_command) -> None:
    options = ("--device", "cpu", "--quiet", "--budget", "60s", *case.options)
    result = run_command("probe", _FOLDER / case.file, *options)
    _check_end(case, result.exit_code, result.stdout, result.stderr)


@pytest.mark.slow
def test_a_command_of_its_own_says_the_same(tmp_path: Path) -> None:
    (case,) = (each for each in SEEN_BY_INSPECTION if each.file == "segfault.py")
    outcome = run_probe(str(_FOLDER / case.file), "--budget", "60s", directory=tmp_path)
    _check_end(case, outcome.exit_code, outcome.stdout, outcome.stderr)
    assert outcome.survivors == ()


def _check_end(case: Case, exit_code: int | None, stdout: str, stderr: str) -> None:
    assert exit_code == case.exit_code, stderr
    _check_words(case, stderr)
    assert "bsadvisor:" not in stdout
    assert "Traceback" not in stdout


@pytest.mark.slow
def test_growing_memory_is_named(run_command) -> None:
    options = ("--device", "cpu", "--budget", "12s", "--max-batch", "8", "--memory-limit", "1GiB")
    result = run_command("probe", str(_FOLDER / "memory_leak.py"), *options)
    assert result.exit_code in {0, 3, 5}, result.stderr
    said = f"{result.stdout}\n{result.stderr}"
    assert re.search(r"memory[^.]*\b(grows|rises|grew|rose)\b", said, re.IGNORECASE), said
    assert "Traceback" not in said


def test_every_bad_model_file_has_a_case() -> None:
    listed = {case.file for case in (*SEEN_BY_INSPECTION, *SEEN_BY_PROBES)} - {
        "syntax_error.py"
    } | {"memory_leak.py"}
    assert {file.name for file in (ROOT / _FOLDER).glob("*.py")} == listed
