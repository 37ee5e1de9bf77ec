"""Pretended cards and workers on them; without the stand-in all is skipped, with the reason."""

import ctypes
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from advisor.engine.command import execute
from advisor.engine.runner import Runner
from advisor.engine.spec import Limits, Spec
from advisor.questions import RUN
from advisor.training.data import WorkloadSpec
from tests.cuda.neighbour import Neighbour
from tests.unit.doubles import Notes

HERE = Path(__file__).parent
MODELS = HERE / "models"
MISSING = "no pretended cards here: tests/stand_in/cuda/README.md tells how they are built"


def find_missing():
    """Return why these tests cannot run, None where they can."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return MISSING
    return None if hasattr(driver, "card_count") else MISSING


def pytest_collection_modifyitems(items):
    reason = find_missing()
    for item in items:
        if reason and HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def settings_path(tmp_path_factory):
    """Where each process reads what its cards are, from its first call on."""
    path = tmp_path_factory.mktemp("cards") / "settings"
    os.environ["STAND_IN_SETTINGS"] = str(path)
    return path


@pytest.fixture
def cards(settings_path, tmp_path):
    """A function that says what the cards are from here on; a file of their processes each test."""

    def choose(**settings):
        settings = {"state": tmp_path / "processes", **settings}
        lines = [f"STAND_IN_{name.upper()}={value}\n" for name, value in settings.items()]
        settings_path.write_text("".join(lines))

    choose()
    return choose


@pytest.fixture(scope="session")
def server(settings_path):
    """Workers, each a fork of one server."""
    with Runner(None) as workers:
        yield workers


@pytest.fixture
def run(cards, server):
    """A function that runs a task on the cards and returns its results."""
    return lambda task, timeout_s=60.0: server.run(task, timeout_s=timeout_s)


@pytest.fixture
def ask(cards):
    """A function: Python code goes in, what it prints comes out."""

    def run(code, **environment):
        done = subprocess.run(
            [sys.executable, "-c", "import torch\n" + code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")[0]

    return run


@pytest.fixture
def neighbour(cards):
    """A function that puts another process on the card until the test ends; `cards` comes first."""
    started = []

    def start():
        started.append(Neighbour())
        return started[0]

    yield start
    for each in started:
        each.leave()


def workload(name, **settings):
    """The workload of one of the models here."""
    return WorkloadSpec(target=str(MODELS / f"{name}.py"), device="cuda", **settings)


def record_of(spec, *names, save=lambda _: None, **limits):
    """The record of a run that asks these questions alone; no time ends it.

    `save` gets the record so far after each result.
    """
    questions = [
        each if each.name in names else replace(each, run=None, more=None) for each in RUN.questions
    ]
    return execute(
        replace(RUN, questions=tuple(questions)),
        Spec(workload=spec, limits=Limits(**{"budget_s": 600.0, **limits})),
        argv=(),
        progress=Notes(),
        save=lambda found: save(found.record),
    )
