"""Does any damaged file get a traceback, a hang or a verdict? 5,000 files that hypothesis damages.

Run: python benchmarks/gate_fuzz.py. Each file is a baseline, a check or a run of probe in which one
thing is wrong; one command that reads such files gets it, in this process. A file that no longer is
such a document must end the command with exit status 2 and one paragraph, which names the place
where JSON has one. Any other must get an answer or a refusal, never exit status 70.

The run is a real one of a small model (tests/recordings/run.json.gz) whose long series were cut and
to which the parts of other runs were added, so that it has something for every question.
"""

import copy
import gzip
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import typer.main
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from results import write_results
from typer.testing import CliRunner

from advisor.cli import app
from advisor.device.data import DeviceFacts, Environment
from advisor.engine.document import encode_document
from advisor.engine.record import Conclusions, open_record
from advisor.engine.run import Run
from advisor.engine.spec import Spec
from advisor.gate.data import NEW, OCCASIONS, OLD, Occasion, Peak, Session, Setting
from advisor.questions import KINDS
from advisor.training.data import WorkloadFacts, WorkloadSpec

CASES = 5000
RUN = Path(__file__).resolve().parent.parent / "tests" / "recordings" / "run.json.gz"
TARGET, SIZE = "model.py", 16
COMMANDS = (
    *("report", "report --full", "report --markdown -", "report --html -"),
    *("baseline show", "check", "compare OLD", "compare NEW"),
    *("compare NEW --junit -", "compare NEW --markdown -", "compare OLD --export bencher=-"),
)
#: Some that no clock, memory or model gives, and some that are at the edge of what they may give.
NUMBERS = (
    *(
        -1,
        0,
        0.0,
        1,
        2,
        0.5,
        -1.5,
        5e-324,
        1e-120,
        1e-9,
        1e9,
        1e12,
        1e18,
        1e120,
        -1e120,
        1e200,
        1e300,
        -1e300,
        1e308,
    ),
    *(2**31 - 1, 2**31, 2**60, 2**62, 2**63, 2**64, 2**200),
)
TEXTS = ("", "[/x]", "[red]", "\x1b[2J", "a\nb", "::error::x", "{}", "\u202e", "x" * 5000, "run")
#: The command line; making it takes longer than most files.
MADE = typer.main.get_command(app)
ENVIRONMENT = Environment(
    device=DeviceFacts(kind="cpu", name="cpu", memory_bytes=2**34, available_bytes=2**34),
    torch="2", python="3", platform="linux", cpu="cpu", cpu_threads=2,
)  # fmt: skip
FACTS = WorkloadFacts(
    file=TARGET, model_name="", how_model="", how_loss="", how_optimizer="", how_batch="",
    base_batch_size=SIZE,
)  # fmt: skip
OCCASION = Occasion(
    recorded_at="2026-01-01T00:00:00+00:00",
    tool_version="0",
    setting=Setting(target=TARGET, micro_batch_size=SIZE, environment=ENVIRONMENT),
    sessions=tuple(
        Session(number=number, step_s=(0.1 + 0.001 * number, 0.1), product_s=(0.1,), first_step_s=1)
        for number in range(4)
    ),
    peaks=(Peak(micro_batch_size=SIZE, peak_bytes=2**20),),
    operators=100,
)

Path_ = tuple[str | int, ...]


class Damage(NamedTuple):
    """A file with one thing wrong.

    Attributes:
        is_broken: Whether it is no such document any more; else that depends.
        has_place: Whether the fault is at a place that JSON has a name for.
    """

    content: bytes
    how: str
    is_broken: bool = False
    has_place: bool = False
    what: str = ""

    def __repr__(self) -> str:
        """Return what is wrong, and not the whole file."""
        return f"<{self.how} {self.what or self.content[-40:]!r}>"


def make_record(name: str, **series: Any) -> bytes:
    """Return the document of a record by hand."""
    kind = KINDS[name]  # type: ignore[index]
    spec = Spec(workload=WorkloadSpec(target=TARGET))
    record = open_record(kind.record_type, spec, kind=kind.name, argv=("bsadvisor", name))
    record = msgspec.structs.replace(
        record, complete=True, environment=ENVIRONMENT, workload=FACTS, **series
    )
    return encode_document(kind, Conclusions(record))


SOUND = {
    "baseline": make_record("baseline", **{OCCASIONS.name: (OCCASION, OCCASION)}),
    "check": make_record("check", **{OLD.name: (OCCASION,), NEW.name: (OCCASION,)}),
    "against": make_record(
        "check", **{OLD.name: (OCCASION,), NEW.name: (OCCASION,), "in_turns": True}
    ),
    "run": gzip.decompress(RUN.read_bytes()),
}


def _list_paths(node: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yield where a document has something that is read; what was concluded is not."""
    if path:
        yield path
    if isinstance(node, dict):
        items: Any = node.items()
    else:
        items = enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key != "derived":
            yield from _list_paths(value, (*path, key))


def _group_paths(document: Any) -> list[list[Path_]]:
    """Return the paths, those together that differ by their places in lists alone.

    Each kind of place is as likely as another then, however long the series are.
    """
    groups: dict[Path_, list[Path_]] = {}
    for path in _list_paths(document):
        key = tuple("*" if isinstance(part, int) else part for part in path)
        groups.setdefault(key, []).append(path)
    return list(groups.values())


DOCUMENTS = {name: json.loads(content) for name, content in SOUND.items()}
PATHS = {name: _group_paths(document) for name, document in DOCUMENTS.items()}


def find(document: Any, path: Path_) -> Any:
    """Return what stands at a path."""
    for part in path:
        document = document[part]
    return document


def put(document: Any, path: Path_, value: Any) -> bytes:
    """Return the document with another value at a path."""
    changed = copy.deepcopy(document)
    find(changed, path[:-1])[path[-1]] = value
    return json.dumps(changed).encode()


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """Draw a document, and what is wrong with it."""
    name = draw(st.sampled_from(sorted(SOUND)))
    content, document = SOUND[name].rstrip(), DOCUMENTS[name]
    how = draw(st.sampled_from(["cut", "noise", "byte", "type", *3 * ["value"], "missing", "form"]))
    if how == "cut":
        return Damage(content[: draw(st.integers(0, len(content) - 1))], how, is_broken=True)
    if how == "noise":
        return Damage(draw(st.binary(max_size=64)), how, is_broken=True)
    if how == "byte":
        at = draw(st.integers(0, len(content) - 1))
        return Damage(
            content[:at] + draw(st.binary(min_size=1, max_size=1)) + content[at + 1 :], how
        )
    path = draw(st.sampled_from(draw(st.sampled_from(PATHS[name]))))
    value = find(document, path)
    what = f"{name} {path}"
    if how == "type":
        if value is None:
            return Damage(put(document, path, draw(st.sampled_from([{}, [], "", 0]))), how)
        wrong = put(document, path, _choose_wrong(value))
        return Damage(wrong, how, is_broken=True, has_place=True, what=what)
    if how == "missing":
        changed = copy.deepcopy(document)
        del find(changed, path[:-1])[path[-1]]
        return Damage(json.dumps(changed).encode(), how, what=what)
    if how == "form":
        return draw(st.sampled_from([*_list_forms(content, document, path)]))
    other = draw(_other_values(value))
    return Damage(put(document, path, other), how, what=f"{what} = {other!r:.60}")


def _choose_wrong(value: Any) -> Any:
    """Return what no field takes that takes the value."""
    return {dict: 7, list: "x", str: [1], bool: "yes"}.get(type(value), "7")


def _other_values(value: Any) -> st.SearchStrategy[Any]:
    """Return values of the same type that may or may not be allowed."""
    if isinstance(value, list):
        return st.sampled_from([[], value + value, value[1:], value[:1], value[::-1], [None]])
    if isinstance(value, dict):
        return st.sampled_from([{}, {**value, "?": value}, dict([*value.items()][1:])])
    if isinstance(value, str):
        return st.sampled_from(TEXTS) | st.text(max_size=20)
    return st.sampled_from(NUMBERS) | st.floats(allow_nan=False, allow_infinity=False)


def _list_forms(content: bytes, document: Any, path: Path_) -> Iterator[Damage]:
    """Yield what is wrong with a file beside its values."""
    deep = 10_000 * b"["
    twice = b'{"kind":"run","kind":"baseline",' + content[1:]
    text = put(document, path, "~").replace(b'"~"', b'"\xff"')
    yield Damage(deep, "form", is_broken=True)
    yield Damage(put(document, path, 7)[:-1] + b',"?":' + deep + b"}", "form", is_broken=True)
    yield Damage(b"\xef\xbb\xbf" + content, "form", is_broken=True)
    yield Damage(content.decode().encode("utf-16"), "form", is_broken=True)
    yield Damage(content + content, "form", is_broken=True)
    yield Damage(text, "form", is_broken=True)
    yield Damage(content.replace(b"{", b'{"\xff":0,', 1), "form", is_broken=True)
    yield Damage(content[1:-1], "form", is_broken=True)
    yield Damage(b"[" + content + b"]", "form", is_broken=True)
    yield Damage(twice, "form")
    yield Damage(content.replace(b"1", b"1e999", 3), "form", is_broken=True)


def load_baseline(kind: Any, spec: Spec, *, argv: Any, save: Any, **given_: Any) -> None:
    """Do what `check` does until it would measure, and then as if it had."""
    record = open_record(kind.record_type, spec, kind=kind.name, argv=tuple(argv))
    changes = {key.name: value for key, value in given_["asked"]}
    record = msgspec.structs.replace(record, **changes)
    run = Run(
        spec, record=record, runner=mock.Mock(), progress=given_["progress"], save=save,
        held=given_["held"],
    )  # fmt: skip
    run.keep_environment(ENVIRONMENT)
    run.keep_workload(FACTS)
    for question in kind.questions:
        question.check(run)
    with run.completing():
        run.replace(NEW, (OCCASION,))


def run_command(command: str, damaged: Path, sound: Path) -> tuple[int, str, str]:
    """Return the exit status of a command on the file, and what it wrote."""
    name, *options = command.split()
    arguments: list[str | Path] = [name, *options, damaged]
    if name == "check":
        arguments = [name, TARGET, "--baseline", damaged]
    elif name == "compare":
        sides = (damaged, sound) if options[0] == "OLD" else (sound, damaged)
        arguments = [name, *sides, *options[1:]]
    with (
        mock.patch("advisor.engine.command.execute", load_baseline),
        mock.patch("typer.testing._get_command", return_value=MADE),
    ):
        done = CliRunner().invoke(app, [str(each) for each in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def judge(damage: Damage, code: int, out: str, err: str) -> str:
    """Return what is wrong with the end of a command; empty where nothing is."""
    if code not in {0, 1, 2, 3, 4}:
        return f"exit status {code}"
    if "Traceback" in out + err:
        return "a traceback"
    if "\x1b" in err or ("\x1b" in out and not out.startswith("<!DOCTYPE html>")):
        return "what a terminal obeys"
    if damage.is_broken and (code != 2 or out):
        return f"exit status {code} for a file that is none"
    if damage.has_place and not ("`$" in err or "not a baseline" in err):
        return "no place"
    return ""


def fuzz(cases: int, *, start: int) -> dict[str, Any]:
    """Damage so many files, and return how the commands ended.

    Raises:
        AssertionError: One ended as none should; hypothesis names the least damage that shows it.
    """
    ends: Counter[str] = Counter()
    longest_s = 0.0

    @seed(start)
    @settings(
        max_examples=cases, deadline=None, database=None,
        suppress_health_check=[*HealthCheck],
    )  # fmt: skip
    @given(damages(), st.sampled_from(COMMANDS))
    def damage_one(damage: Damage, command: str) -> None:
        nonlocal longest_s
        damaged.write_bytes(damage.content)
        sound.write_bytes(SOUND["run" if b'"probes"' in damage.content else "baseline"])
        began_s = time.perf_counter()
        code, out, err = run_command(command, damaged, sound)
        longest_s = max(longest_s, time.perf_counter() - began_s)
        ends[f"{command}, {damage.how}: exit {code}"] += 1
        fault = judge(damage, code, out, err)
        assert not fault, f"{fault}: {command}, {err}"

    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        damaged, sound = Path("damaged.json"), Path("sound.json")
        damage_one()
    return {"cases": ends.total(), "ends": dict(sorted(ends.items())), "longest_s": longest_s}


def main() -> None:
    """Damage all, print how the commands ended, and save it."""
    found = fuzz(CASES, start=0)
    for end, count in found["ends"].items():
        print(f"{count:5} {end}")
    print(f"{found['cases']} files, the longest took {found['longest_s']:.2f} s")
    print(write_results("gate_fuzz", found))


if __name__ == "__main__":
    main()
