"""Format, lint, types and the import contract, so that one command runs every check."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ADVISOR = ROOT / "advisor"


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "format", "--check", "."],
        ["ruff", "check", "."],
        pytest.param(["mypy"], marks=pytest.mark.slow),
        ["lint-imports"],
    ],
    ids=["format", "lint", "types", "import contract"],
)
def test_the_house_is_in_order(command):
    executable = Path(sys.executable).parent / command[0]
    result = subprocess.run(
        [str(executable), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_file_that_the_docs_name_is_there():
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    named = {
        match[1]
        for document in documents
        for match in re.finditer(r"`([\w/]+/\w+\.(?:py|json))`", document.read_text())
    }
    missing = {name for name in named if not ((ROOT / name).exists() or (ADVISOR / name).exists())}
    assert named
    assert missing == set()


def test_the_map_has_every_folder():
    text = (ROOT / "docs" / "architecture.md").read_text()
    folders = {path.parent.name for path in ADVISOR.glob("*/__init__.py")}
    assert {name for name in folders if f"{name}/" not in text} == set()
