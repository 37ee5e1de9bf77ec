"""What tests of commands share."""

import os
import re

import pytest

PERSONAL = re.compile("^(BSADVISOR_|FORCE_COLOR|NO_COLOR)")


@pytest.fixture
def empty_folder(monkeypatch, tmp_path):
    """A working directory without files, and nothing personal in the environment."""
    for name in [name for name in os.environ if PERSONAL.match(name)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
