import msgspec

from advisor.engine.record import Conclusions
from advisor.noise_floor.question import KIND
from advisor.noise_floor.tell import list_configuration
from advisor.report.console import write_report
from advisor.telling import Row
from tests.unit.doubles import text_of
from tests.unit.noise_floor.timed_sessions import build_comparison

DEFAULTS = build_comparison(device="cpu")


def report_text(record):
    return text_of(write_report, KIND, Conclusions(record), width=100)


def test_the_report_names_the_configuration_that_was_timed():
    text = report_text(build_comparison())
    assert "Configuration" in text
    assert "bf16, width=8" in text
    assert "6 sessions at batch 32" in text
    assert "incomplete" not in text


def test_the_defaults_are_not_named():
    assert list_configuration(DEFAULTS.command) == []
    assert "Configuration" not in report_text(DEFAULTS)


def test_seed_and_compilation_are_named():
    command = msgspec.structs.replace(DEFAULTS.command, compile=True, seed=3)
    assert list_configuration(command) == [Row("Configuration", "fp32 compiled, seed 3")]


def test_one_session_of_an_interrupted_run_is_told_as_such():
    text = report_text(build_comparison(1, complete=False))
    assert "(from an incomplete run)" in text
    assert "1 session at batch 32" in text
    assert "Spread" not in text
