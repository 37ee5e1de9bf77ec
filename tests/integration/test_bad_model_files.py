"""Whatever the file does, the command ends with the right code, a short word and no child."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.probe_command import ROOT, Outcome, ProbesAhead, probe_ahead, run_probe

_FOLDER = Path("tests/workloads/bad")
_PACKAGE = str(ROOT / "advisor")

#: Lines of a message, the user's traceback not counted.
_MOST_LINES = 12

# Written by the test: a file that does not parse would stop every tool that reads the repository.
_BROKEN_SOURCE = "import torch\n\ndef make_model(:\n    return torch.nn.Linear(8, 3)\n"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model file and what the command must say about it.

    Attributes:
        fragments: Found in the message, which starts at `bsadvisor:`.
        has_traceback: Whether the user's own traceback comes before it.
        options: Further options of the command.
    """

    file: str
    fragments: tuple[str, ...]
    exit_code: int = 5
    has_traceback: bool = False
    options: tuple[str, ...] = ("--max-batch", "8")
    budget: str = "8s"


CASES = (
    Case(file="syntax_error.py", fragments=("syntax_error.py:3", "syntax"), has_traceback=True),
    Case(file="missing_import.py", fragments=("no_such_package_anywhere",), has_traceback=True),
    Case(file="sys_exit_at_import.py", fragments=("sys.exit", "DATA"), has_traceback=True),
    Case(file="hang_at_import.py", fragments=("did not finish", "<module>"), budget="6s"),
    Case(file="no_names.py", fragments=("make_model", "found none", "    def make_model():")),
    Case(file="no_data.py", fragments=("make_dataset", "make_batch")),
    Case(file="empty_dataset.py", fragments=("dataset is empty",)),
    Case(file="batch_size_ignored.py", fragments=("batch size is ignored", "make_batch")),
    Case(file="shape_error.py", fragments=("shape_error.py:13", "2x9 and 8x3"), has_traceback=True),
    Case(file="non_scalar_loss.py", fragments=("shape (2,)", "loss.mean()")),
    Case(file="loss_without_grad.py", fragments=("no gradient", ".detach()")),
    Case(file="nan_loss.py", fragments=("loss is nan", "first step")),
    Case(file="unpicklable_exception.py", fragments=("HostileError",), has_traceback=True),
    Case(
        file="hang.py",
        fragments=("did not finish", "hang.py:", "in forward", "--budget"),
        budget="6s",
    ),
    Case(file="spawns_children.py", fragments=("did not finish", "make_model"), budget="6s"),
    Case(file="exit_in_make_model.py", fragments=("exit status 0",)),
    Case(file="exit_in_forward.py", fragments=("exit status 0",)),
    Case(file="segfault.py", fragments=("SIGSEGV", "segfault.py:11")),
    Case(file="sigkill_self.py", fragments=("SIGKILL",)),
    Case(
        file="nothing_fits.py",
        fragments=("128 MiB",),
        exit_code=6,
        options=("--memory-limit", "128MiB", "--headroom", "0"),
        budget="20s",
    ),
    Case(
        file="failure_at_odd_sizes.py",
        fragments=("7", "--batch-multiple"),
        has_traceback=True,
        options=("--max-batch", "7"),
        budget="15s",
    ),
    Case(
        file="failure_at_step_five.py",
        fragments=("LookupError", "step five"),
        has_traceback=True,
        budget="15s",
    ),
)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.file.removesuffix(".py"))
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def probes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProbesAhead]:
    yield from probe_ahead(request, tmp_path_factory, CASES, _probe)


def _probe(case: Case, directory: Path) -> Outcome:
    target = str(_FOLDER / case.file)
    if case.file == "syntax_error.py":
        target = str(directory / case.file)
        Path(target).write_text(_BROKEN_SOURCE)
    options = ("--budget", case.budget, *case.options)
    return run_probe(target, *options, directory=directory, threads=1)


@pytest.fixture(scope="module")
def outcome(case: Case, probes: ProbesAhead) -> Outcome:
    """The command run once; each test below looks at one side of how it ended."""
    return probes.get(case)


def test_exit_code_tells_whose_fault_it_is(case: Case, outcome: Outcome) -> None:
    assert outcome.exit_code == case.exit_code, outcome.stderr


def test_message_is_short_names_the_file_and_ends_in_what_to_do(
    case: Case, outcome: Outcome
) -> None:
    message = _message(outcome)
    lines = message.splitlines()
    assert 2 <= len(lines) <= _MOST_LINES, outcome.stderr
    assert case.file in message
    for fragment in case.fragments:
        assert fragment in message


def test_traceback_is_the_users_own_from_its_first_line(case: Case, outcome: Outcome) -> None:
    files = re.findall(r'File "([^"]+)", line \d+', outcome.stderr)
    assert [file for file in files if file.startswith(_PACKAGE)] == []
    if case.has_traceback:
        assert Path(files[0]).name == case.file, outcome.stderr
        assert outcome.stderr.count("Traceback (most recent call last)") <= 1
    else:
        assert files == [], outcome.stderr


def test_failure_is_told_on_stderr_alone(outcome: Outcome) -> None:
    assert "bsadvisor:" not in outcome.stdout
    assert "Traceback" not in outcome.stdout


def test_no_process_outlives_the_command(outcome: Outcome) -> None:
    assert outcome.survivors == ()


def test_growing_memory_is_named(tmp_path: Path) -> None:
    target = str(_FOLDER / "memory_leak.py")
    options = ("--budget", "12s", "--max-batch", "8", "--memory-limit", "1GiB")
    outcome = run_probe(target, *options, directory=tmp_path)
    assert outcome.exit_code in {0, 3, 5}, outcome.stderr
    said = f"{outcome.stdout}\n{outcome.stderr}"
    assert re.search(r"memory[^.]*\b(grows|rises|grew|rose)\b", said, re.IGNORECASE), said
    assert "Traceback" not in said
    assert outcome.survivors == ()


def test_every_bad_model_file_has_a_case() -> None:
    listed = {case.file for case in CASES} - {"syntax_error.py"} | {"memory_leak.py"}
    assert {file.name for file in (ROOT / _FOLDER).glob("*.py")} == listed


def _message(outcome: Outcome) -> str:
    """Return what the command says itself: from the line that starts with its name."""
    _, separator, rest = f"\n{outcome.stderr}".partition("\nbsadvisor: ")
    assert separator, outcome.stderr
    return rest.rstrip()
