"""Files of the user's are never harmed by a result that is written to them."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from advisor.engine.files import is_same_file, is_stream, write_file

OLD, NEW = b"old", b"new content"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(OLD)
    return path


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_a_file_is_replaced_in_one_step_and_keeps_its_permissions(file):
    file.chmod(0o640)
    with file.open("rb") as reader:
        write_file(file, NEW)
        assert reader.read() == OLD
    assert file.read_bytes() == NEW
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert names_in(file.parent) == {"run.json"}


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    write_file(tmp_path / "new", NEW)
    (tmp_path / "other").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("target", ["run.json", "new.json"])
def test_a_link_stays_a_link(file, target):
    link = file.parent / "link"
    link.symlink_to(target)
    write_file(link, NEW)
    assert link.is_symlink()
    assert (file.parent / target).read_bytes() == NEW


def test_every_name_of_a_file_shows_the_content(file):
    other = file.parent / "other"
    other.hardlink_to(file)
    write_file(file, NEW)
    assert other.read_bytes() == NEW


def test_a_pipe_is_written_through(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, NEW)
    reader.join()
    assert read == [NEW]
    assert pipe.is_fifo()
    assert is_stream(pipe)


def test_a_device_stays_a_device(tmp_path):
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    write_file(link, NEW)
    assert link.is_symlink()
    assert Path("/dev/null").is_char_device()
    assert is_stream(link)


def test_what_leads_to_an_open_file_is_known(file):
    with file.open("r+b") as opened:
        assert is_same_file(Path(f"/dev/fd/{opened.fileno()}"), opened.fileno())
        assert not is_same_file(file.parent, opened.fileno())
        assert not is_same_file(file.parent / "missing", opened.fileno())


def test_a_file_that_is_open_under_a_lost_name_is_written_through(file):
    with file.open("r+b") as opened:
        file.unlink()
        write_file(Path(f"/dev/fd/{opened.fileno()}"), NEW)
        assert opened.read() == NEW
    assert names_in(file.parent) == set()


def test_a_folder_that_takes_no_second_file_is_no_hindrance(tmp_path):
    longest = tmp_path / ("x" * 255)  # no room for a temporary name
    longest.write_bytes(OLD)
    write_file(longest, NEW)
    assert longest.read_bytes() == NEW


FULL = """
import resource, sys
from pathlib import Path
from advisor.engine.files import write_file
resource.setrlimit(resource.RLIMIT_FSIZE, (4, resource.RLIM_INFINITY))
try:
    write_file(Path(sys.argv[1]), b"more than fits")
except OSError as error:
    print(error.errno)
"""


def test_where_no_room_is_left_the_file_is_as_it_was(file):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(file)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert int(done.stdout) > 0
    assert file.read_bytes() == OLD
    assert names_in(file.parent) == {"run.json"}
