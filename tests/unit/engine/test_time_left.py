"""After every question ran, those that are still open share the time that is left."""

import random
from contextlib import nullcontext
from dataclasses import replace

import pytest

from advisor.engine import command, run
from advisor.engine.question import Question
from advisor.engine.spec import Limits, Spec
from advisor.engine.task import EnvironmentTask
from advisor.errors import InternalError, WorkloadError
from advisor.questions import RUN
from advisor.training.data import WorkloadSpec
from tests.unit.doubles import Notes
from tests.unit.report.sample_run import build_environment
from tests.unit.samples import FACTS


class Opening:
    """Answers what a command asks of the machine and the model file."""

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        return None

    def run(self, task, *, timeout_s, on_result=None):
        return (build_environment(),) if isinstance(task, EnvironmentTask) else (FACTS,)


class Clock:
    """Stands still but while a question works."""

    def __init__(self):
        self.now_s = 1000.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Return a function that asks questions of so many pieces of so many seconds each."""
    clock = Clock()
    monkeypatch.setattr(run, "time", clock)
    monkeypatch.setattr(command, "Runner", lambda *_, **__: Opening())
    (tmp_path / "model.py").touch()

    def ask(pieces, budget_s, error=None, others=(), began_s=None):
        calls, saved = [], []
        left = {name: count for name, (count, _) in pieces.items()}

        def make(name, piece_s):
            def more(run):
                if left[name] == 0 or run.unspent_s < piece_s:
                    return False
                left[name] -= 1
                clock.now_s += piece_s
                calls.append(name)
                if error is not None and left[name] == 0:
                    raise error
                return True

            return Question(name=name, run=lambda run: calls.append(f"{name} first"), more=more)

        closed = Question(name="closed", run=lambda run: calls.append("closed first"))
        made = [make(name, piece_s) for name, (_, piece_s) in pieces.items()]
        spec = Spec(
            workload=WorkloadSpec(target=str(tmp_path / "model.py")),
            limits=Limits(budget_s=budget_s),
        )
        kind = replace(RUN, questions=(*made, *others, closed))
        ends = (
            pytest.raises(KeyboardInterrupt)
            if isinstance(error, KeyboardInterrupt)
            else nullcontext()
        )
        with ends:
            command.execute(
                kind,
                spec,
                argv=(),
                progress=Notes(),
                save=lambda found: saved.append(found.record),
                began_s=began_s,
            )
        return calls, left, saved[-1]

    return ask


def test_open_questions_take_turns_from_the_last_until_a_whole_round_did_nothing(ask):
    calls, _, record = ask({"a": (1, 1.0), "b": (0, 1.0), "c": (3, 1.0)}, budget_s=100.0)
    assert calls == ["a first", "b first", "c first", "closed first", "c", "a", "c", "c"]
    assert record.complete


def test_no_piece_begins_once_the_time_is_up_and_none_that_it_does_not_cover(ask):
    calls, _, record = ask({"a": (99, 4.0), "b": (99, 3.0)}, budget_s=12.0)
    assert calls[3:] == ["b", "a", "b"]  # 10 s: the two left cover neither
    calls, _, _ = ask({"a": (99, 4.0)}, budget_s=8.0)
    assert calls[2:] == ["a", "a"]
    assert record.complete


def test_what_passed_before_the_command_ran_is_of_its_budget(ask):
    calls, _, record = ask({"a": (99, 4.0)}, budget_s=12.0, began_s=995.0)
    assert calls[2:] == ["a"]  # 5 s had passed
    assert record.elapsed_s == 9.0


def test_however_many_pieces_run_late_they_overdraw_the_budget_once(ask):
    def take_all(running):
        for _ in range(9):
            run.time.now_s += running.left_s

    _, _, record = ask({}, 100.0, others=(Question(name="late", run=take_all),))
    assert record.elapsed_s <= 106.0


def test_all_the_time_is_used_where_questions_stay_open(ask):
    draw = random.Random(0)
    for _ in range(100):
        count = draw.randint(1, 5)
        pieces = {
            str(index): (draw.randint(0, 9), draw.uniform(0.1, 9.0)) for index in range(count)
        }
        budget_s = draw.uniform(1.0, 100.0)
        calls, left, _ = ask(pieces, budget_s)
        spent_s = sum(pieces[name][1] for name in calls[count + 1 :])
        assert spent_s <= budget_s
        still_open = [piece_s for name, (_, piece_s) in pieces.items() if left[name]]
        assert all(piece_s > budget_s - spent_s for piece_s in still_open)


def test_an_interrupt_during_a_further_piece_ends_the_command(ask):
    calls, _, record = ask({"a": (2, 1.0), "b": (9, 1.0)}, 100.0, KeyboardInterrupt())
    assert calls[3:] == ["b", "a", "b", "a"]
    assert not record.complete
    assert record.stopped_because == "interrupted"


def test_a_failure_of_a_further_piece_ends_its_question_alone(ask):
    calls, _, record = ask({"a": (2, 1.0), "b": (4, 1.0)}, 100.0, WorkloadError("it broke"))
    assert calls[3:] == ["b", "a", "b", "a", "b", "b"]
    assert record.complete
    assert [(end.stage, end.message) for end in record.failures] == [
        ("a", "it broke"),
        ("b", "it broke"),
    ]


@pytest.mark.parametrize("error", [WorkloadError("it broke"), InternalError("ours")])
def test_a_question_that_fails_at_first_ends_the_command_unless_it_fails_alone(ask, error):
    def fail(run):
        raise error

    broken = Question(name="broken", run=fail, more=fail)
    with pytest.raises(type(error)):
        ask({"a": (2, 1.0)}, 100.0, others=(broken,))
    calls, _, record = ask({"a": (2, 1.0)}, 100.0, others=(replace(broken, fails_alone=True),))
    assert calls == ["a first", "closed first", "a", "a"]
    assert record.complete
    (end,) = record.failures
    assert end.stage == "broken"
    assert end.message.endswith(error.message)
    assert end.message.startswith("a fault in bsadvisor") == isinstance(error, InternalError)
