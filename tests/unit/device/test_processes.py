import os
import subprocess
import sys

import pytest

from advisor.device import processor
from advisor.device.processor import list_tree

#: Starts a child in a session of its own, says its number, and waits.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=0, start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def family():
    """Return the numbers of a child and of its own child."""
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        yield child.pid, int(child.stdout.readline())
        child.communicate(b"\n")


def test_the_tree_holds_the_children_of_children(family):
    assert list_tree([os.getpid()]) >= {os.getpid(), *family}
    assert list_tree([family[0]]) == set(family)


def test_a_system_without_lists_of_children_is_searched(family, monkeypatch, tmp_path):
    monkeypatch.setattr(processor, "_PROC", tmp_path)
    assert list_tree([family[0]]) == set(family)


def test_a_kernel_without_lists_of_children_is_searched(family, monkeypatch, tmp_path):
    for pid in family:
        (tmp_path / str(pid) / "task" / str(pid)).mkdir(parents=True)
    monkeypatch.setattr(processor, "_PROC", tmp_path)
    assert list_tree([family[0]]) == set(family)


def test_a_process_that_ended_is_alone():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert list_tree([child.pid]) == {child.pid}
