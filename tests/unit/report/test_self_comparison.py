import msgspec
from rich.console import Console

from advisor.noise_floor.plan import compare_with_itself
from advisor.noise_floor.record import SelfComparisonCommand, SelfComparisonRecord
from advisor.noise_floor.tell import list_configuration, write_self_comparison
from tests.unit.analysis.test_self_comparison import session

COMMAND = SelfComparisonCommand(argv=(), seed=0, precision="fp32", budget_s=60.0)


def build_comparison(sessions=6):
    """Sessions whose figures are made up."""
    return SelfComparisonRecord(
        tool_version="0.1.0",
        created_at="2025-01-02T03:04:05Z",
        complete=True,
        command=msgspec.structs.replace(COMMAND, precision="bf16", settings={"width": "8"}),
        probes=tuple(session(n, 0.1 + 0.001 * (n % 3)) for n in range(sessions)),
    )


def text_of(record):
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        write_self_comparison(console, record, compare_with_itself(record.probes))
    return capture.get()


def test_the_report_names_the_configuration_that_was_timed():
    text = text_of(build_comparison())
    assert "Configuration" in text
    assert "bf16, width=8" in text
    assert "6 sessions at batch 32" in text
    assert "incomplete" not in text


def test_the_defaults_are_not_named():
    record = msgspec.structs.replace(build_comparison(), command=COMMAND)
    assert list_configuration(COMMAND) == []
    assert "Configuration" not in text_of(record)


def test_seed_and_compilation_are_named():
    command = msgspec.structs.replace(COMMAND, compile=True, seed=3)
    assert list_configuration(command) == [("Configuration", "fp32 compiled, seed 3")]


def test_one_session_of_an_interrupted_run_is_told_as_such():
    text = text_of(msgspec.structs.replace(build_comparison(1), complete=False))
    assert "(from an incomplete run)" in text
    assert "1 session at batch 32" in text
    assert "Spread" not in text
