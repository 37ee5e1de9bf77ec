"""Results go where the reader said, and what lies there stays what it is."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from advisor.cli.drive import Output
from advisor.cli.options import Results
from advisor.engine import kept
from advisor.engine.document import encode_document
from advisor.errors import UsageError
from advisor.questions import RUN
from tests.given import GivenConclusions
from tests.unit.report.sample_run import build_derived, build_record

ROOT = Path(__file__).parents[3]
GIVEN = GivenConclusions(build_record(), build_derived())


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(encode_document(RUN, GIVEN))
    return path


def report(*arguments, **streams):
    """Return the finished `bsadvisor report` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "advisor.cli", "report", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        text=True, check=False, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("path", ["-", "/dev/stdout"])
def test_what_goes_to_stdout_stands_there_alone(saved, path):
    assert report(saved, "--html", path).stdout.startswith("<!DOCTYPE html>")
    file = saved.parent / "page"
    with file.open("w") as stream:
        report(saved, "--html", path, stdout=stream)
    assert file.read_text().count("<!DOCTYPE html>") == 1
    assert file.read_text().endswith("</html>\n")
    assert Path("/dev/stdout").is_symlink()


@pytest.mark.parametrize(("one", "other"), [("-", "-"), ("-", "/dev/stdout"), ("a", "./a")])
def test_two_results_never_go_to_one_place(monkeypatch, tmp_path, one, other):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="both"):
        Output(Results(json_path=Path(one), html_path=Path(other)))


@pytest.mark.parametrize("name", ["model.py", "model.py:make_model", "link.py"])
def test_no_result_goes_to_a_file_that_the_command_reads(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text("mine")
    (tmp_path / "link.py").symlink_to("model.py")
    for result in ("model.py", "link.py"):
        for options in ({"json_path": Path(result)}, {"html_path": Path(result)}):
            with pytest.raises(UsageError, match="is read by this command"):
                Output(Results(**options), reads=(None, "other", name))
    assert (tmp_path / "model.py").read_text() == "mine"


def test_a_run_is_never_replaced_by_its_page(saved):
    before = saved.read_bytes()
    assert report(saved, "--html", saved).returncode == 2
    assert saved.read_bytes() == before


def test_a_full_stdout_is_no_fault_of_the_program(saved):
    with Path("/dev/full").open("w") as full:
        done = report(saved, stdout=full)
    assert done.returncode == 2
    assert "No space left" in done.stderr


def test_a_working_directory_that_is_gone_is_named(saved):
    gone = saved.parent / "gone"
    gone.mkdir()
    done = report(saved, cwd=gone, preexec_fn=lambda: os.rmdir(gone))
    assert done.returncode == 2
    assert "working directory" in done.stderr


def test_a_pipe_gets_the_last_document_alone(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    output = Output(Results(json_path=pipe, quiet=True))
    output.save(RUN, GIVEN)
    output.save(RUN, GIVEN)
    output.write(RUN, GIVEN)
    reader.join()
    assert read == [encode_document(RUN, GIVEN)]


def test_a_run_that_cannot_be_kept_says_so_where_the_report_is_looked_for(
    monkeypatch, tmp_path, capsys
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept, "find_folder", lambda: tmp_path / "file" / "runs")
    Output(Results()).write(RUN, GIVEN)
    said = capsys.readouterr().err
    assert "This run is not kept" in said
    assert "Not a directory" in said or "File exists" in said
    assert "--json FILE" in said


def test_the_report_is_printed_and_the_run_goes_on_where_the_disk_fills_up(tmp_path, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    output = Output(Results(json_path=folder / "run.json", quiet=True))
    output.save(RUN, GIVEN)
    (folder / "run.json").unlink()
    folder.rmdir()
    output.save(RUN, GIVEN)
    with pytest.raises(UsageError, match="cannot write"):
        output.write(RUN, GIVEN)
    assert "batch 192" in capsys.readouterr().out


def test_the_first_save_fails_at_once(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    output = Output(Results(json_path=folder / "run.json"))
    folder.rmdir()
    with pytest.raises(UsageError, match="cannot write"):
        output.save(RUN, GIVEN)


@pytest.mark.parametrize("name", [".", "missing/run.json", "broken"])
def test_what_cannot_be_written_is_refused_before_the_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").symlink_to("missing/run.json")
    with pytest.raises(UsageError):
        Output(Results(json_path=Path(name)))


def test_verify_refuses_a_run_to_which_nothing_can_be_added(saved):
    with saved.open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "advisor.cli", "verify", "/dev/stdin", "model.py"],
            input=stream.read(), capture_output=True, check=False, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode == 2
    assert b"/dev/stdin is no file" in done.stderr


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_init_writes_through_a_link_only_where_it_may(tmp_path, force):
    from typer.testing import CliRunner

    from advisor.cli import app

    link, file = tmp_path / "link.py", tmp_path / "file.py"
    file.write_text("mine")
    link.symlink_to(file)
    done = CliRunner().invoke(app, ["init", str(link), *force])
    assert done.exit_code == (0 if force else 2)
    assert (file.read_text() == "mine") is not bool(force)
    assert link.is_symlink()
