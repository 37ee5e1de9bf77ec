"""Files that others may have written: an answer or a refusal, never a traceback, never a hang."""

import json
import os
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.engine.document import read_record, read_untrusted
from advisor.engine.record import SCHEMA_VERSION
from advisor.errors import UsageError
from advisor.gate.data import Occasion, Peak, Session
from advisor.gate.plan import compare
from advisor.gate.reading import read_occasions
from advisor.questions import KINDS
from tests.unit.gate.sides import make_occasion

#: Of the 5,000 that the benchmark damages.
SHARE = 500


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    import gate_fuzz

    return gate_fuzz


@pytest.fixture
def run(fuzz, tmp_path, monkeypatch):
    """A function: a command and a file go in, its exit status and what it wrote come out."""
    monkeypatch.chdir(tmp_path)
    sound = tmp_path / "sound.json"
    sound.write_bytes(fuzz.SOUND["baseline"])
    return lambda command, path: fuzz.run_command(command, Path(path), sound)


@pytest.mark.slow
def test_damaged_files_are_answered_or_refused(fuzz):
    assert fuzz.fuzz(SHARE, start=1)["cases"] == SHARE


@pytest.mark.parametrize("name", ["baseline", "check", "against", "run"])
@pytest.mark.parametrize("command", ["report --full", "compare OLD", "compare NEW"])
def test_the_files_that_are_damaged_are_sound(fuzz, run, tmp_path, name, command):
    path = tmp_path / "file.json"
    path.write_bytes(fuzz.SOUND[name])
    code, out, err = run(command, path)
    # The run is of another device, so it is compared with itself alone.
    assert code == (4 if (name, command[:7]) == ("run", "compare") else 0), err
    assert out


@pytest.mark.parametrize("command", ["baseline show", "check"])
def test_the_baseline_that_is_damaged_is_sound(fuzz, run, tmp_path, command):
    path = tmp_path / "file.json"
    path.write_bytes(fuzz.SOUND["baseline"])
    code, out, err = run(command, path)
    assert code == 0, err
    assert out


def make_pipe(path):
    os.mkfifo(path)


def make_large(path):
    with path.open("wb") as file:
        file.truncate(65 << 20)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (make_pipe, "Input data was truncated"),
        (Path.mkdir, "Is a directory"),
        (lambda path: None, "No such file"),
        (make_large, "is larger than 64 MiB"),
        (lambda path: path.symlink_to("/dev/zero"), "is larger than 64 MiB"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b""), "Input data was truncated"),
        (lambda path: path.write_bytes(b"\xff"), "can't decode byte"),
    ],
    ids=["pipe", "folder", "missing", "large", "endless", "loop", "empty", "no text"],
)
@pytest.mark.parametrize("command", ["report", "compare OLD", "compare NEW", "baseline show"])
def test_what_is_no_file_is_refused(run, tmp_path, make, told, command):
    path = tmp_path / "file.json"
    make(path)
    code, out, err = run(command, path)
    if (command, make) == ("baseline show", Path.mkdir):
        assert code == 4  # of a folder the baselines in it are shown
        return
    assert (code, out) == (2, "")
    assert told in err


def test_a_pipe_is_read_to_its_end(fuzz, tmp_path):
    path, content = tmp_path / "pipe", fuzz.SOUND["run"]
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = path.open("wb", buffering=0)

    def write():
        with writer:
            for at in range(0, len(content), 4096):
                writer.write(content[at : at + 4096])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert read_untrusted(path) == content
    finally:
        os.close(reader)
        thread.join()


@pytest.mark.parametrize(
    ("name", "place", "value", "told"),
    [
        ("baseline", ("occasions", 1, "sessions", 0, "step_s", 0), -0.1, "float` >= 1e-09"),
        ("baseline", ("occasions", 1, "sessions", 0, "step_s", 0), 1e300, "float` <= 1"),
        ("baseline", ("occasions", 1, "sessions", 0, "step_s"), [], "length >= 1"),
        ("baseline", ("occasions", 1, "peaks", 0, "peak_bytes"), 0, "int` >= 1"),
        ("baseline", ("occasions", 1, "setting", "micro_batch_size"), 2**40, "int` <= 2"),
        ("baseline", ("occasions", 1, "setting", "environment"), None, "Expected `object`"),
        ("check", ("known_spread_fraction",), 1e6, "float` <= 10"),
        ("check", ("policies",), {"speed": {}}, "Invalid enum value 'speed'"),
        ("run", ("probes", 5, "step_times_s", 0), 0, "float` >= 1e-09"),
        ("run", ("telemetry", 0, "at_s"), [1.0], "a series is not as long as `at_s`"),
        ("run", ("noise_batches", 0, "groups"), [0, 10**9], "not of the same gradients"),
        ("run", ("loop_timings", 0, "pass_s"), [], "not as long as `micro_batch_sizes`"),
        ("run", ("workload", "base_batch_size"), 2**62, "int` <= 2"),
        ("run", ("scenario", "gamma"), 0, "float` >= 0.001"),
    ],
)
def test_a_figure_that_cannot_be_is_refused_with_its_place(
    fuzz, run, tmp_path, name, place, value, told
):
    path = tmp_path / "file.json"
    path.write_bytes(fuzz.put(fuzz.DOCUMENTS[name], place, value))
    code, out, err = run("compare NEW", path)
    assert (code, out) == (2, "")
    assert told in err
    # The place, or what it is in where several figures are wrong together.
    at = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    assert f"`${at}`" in err or f"`${at[: at.rindex('.')]}`" in err or "[...]" in err


@pytest.mark.parametrize("command", ["baseline show", "check", "compare OLD", "report"])
def test_a_file_of_a_later_version_is_refused(fuzz, run, tmp_path, command):
    path = tmp_path / "file.json"
    document = {**fuzz.DOCUMENTS["baseline"], "schema_version": SCHEMA_VERSION + 1}
    path.write_text(json.dumps(document))
    code, _, err = run(command, path)
    assert code == 2
    assert "Upgrade bsadvisor" in err


@pytest.mark.parametrize("sessions", [0, 1])
def test_a_baseline_needs_a_session_on_each_occasion(fuzz, run, tmp_path, sessions):
    path = tmp_path / "file.json"
    seen = fuzz.DOCUMENTS["baseline"]["occasions"][0]["sessions"][:sessions]
    path.write_bytes(fuzz.put(fuzz.DOCUMENTS["baseline"], ("occasions", 1, "sessions"), seen))
    for command in ("baseline show", "check"):
        code, _, err = run(command, path)
        assert code == (0 if sessions else 2)
        assert ("an occasion has no session" in err) is not bool(sessions)
    assert run("report", path)[0] == 0


def test_a_run_is_no_baseline(fuzz, run, tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(fuzz.SOUND["run"])
    for command in ("baseline show", "check"):
        code, _, err = run(command, path)
        assert code == 2
        assert "is a run, not a baseline" in err
        assert "bsadvisor baseline record MODEL" in err


@pytest.mark.parametrize("text", ["[/x]", "\x1b[2J\x1b]0;owned\x07", "\x9b2J"])
def test_a_text_neither_marks_up_nor_moves_the_cursor(fuzz, run, tmp_path, text):
    path = tmp_path / "file.json"
    places = [("environment", "device", "name"), ("workload", "sample_unit"), ("tool_version",)]
    for place in places:
        path.write_bytes(fuzz.put(fuzz.DOCUMENTS["run"], place, text))
        code, out, _ = run("report --full", path)
        assert code == 0
        assert not {"\x1b", "\x9b", "\x07"} & set(out)


def test_a_text_is_no_markup_of_a_page_or_of_markdown(fuzz, run, tmp_path):
    path, text = tmp_path / "file.json", "</script><script>alert()</script>\n# it | \x1b[2J"
    for place in [
        ("environment", "device", "name"),
        ("workload", "sample_unit"),
        ("tool_version",),
    ]:
        path.write_bytes(fuzz.put(fuzz.DOCUMENTS["run"], place, text))
        for command in ("report --markdown -", "report --html -"):
            code, out, _ = run(command, path)
            assert code == 0
            assert "<script>alert" not in out
            if "markdown" in command:
                assert "\x1b" not in out
                assert not any(line.startswith("# it") for line in out.splitlines())


def test_what_compare_takes_from_a_run_is_what_a_baseline_may_hold(fuzz, tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(fuzz.SOUND["run"])
    record = read_record(path, KINDS)[1]
    for size in {probe.micro_batch_size for probe in record.probes}:
        try:
            taken = read_occasions(record, size)
        except UsageError:
            continue
        for occasion in taken:
            content = msgspec.json.encode(occasion)
            assert msgspec.json.decode(content, type=Occasion) == occasion


#: The least, the most and what is usual of each figure that a file may hold.
SECONDS = st.sampled_from([1e-9, 0.1, 0.11, 1e9])
SESSIONS = st.builds(
    Session,
    number=st.integers(0, 9) | st.just(2**31),
    step_s=st.tuples(SECONDS),
    product_s=st.tuples() | st.tuples(SECONDS),
    first_step_s=st.none() | SECONDS,
    sm_clock_mhz=st.sampled_from([None, 1.0, 1e6]),
)
PEAKS = st.builds(
    Peak,
    micro_batch_size=st.sampled_from([16, 32]),
    peak_bytes=st.sampled_from([None, 1, 2**20, 2**60]),
)


@settings(max_examples=100)
@given(st.data())
def test_no_figures_that_are_allowed_are_too_much_for_the_verdict(data):
    def draw():
        return tuple(
            msgspec.structs.replace(
                make_occasion(),
                sessions=tuple(data.draw(st.lists(SESSIONS, max_size=4))),
                peaks=tuple(data.draw(st.lists(PEAKS, max_size=3))),
                operators=data.draw(st.sampled_from([None, 0, 1, 2**62])),
            )
            for _ in range(data.draw(st.integers(1, 2)))
        )

    known = data.draw(st.sampled_from([0.0, 0.1, 10.0]))
    found = compare(draw(), draw(), known_spread=known, in_turns=data.draw(st.booleans()))
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found
