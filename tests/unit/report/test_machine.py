from rich.console import Console

from advisor.device.data import Counter
from advisor.device.doctor_report import render_machine
from tests.unit.report.sample_run import build_environment


def text_of(*counters):
    import msgspec

    console = Console(width=100, record=True, no_color=True, quiet=True)
    console.quiet = False
    with console.capture() as capture:
        console.print(
            render_machine(msgspec.structs.replace(build_environment(), counters=counters))
        )
    return capture.get()


def test_a_power_cap_is_labelled():
    text = text_of(
        Counter(name="power_limit", value=300.0, unit="W"),
        Counter(name="power_limit_default", value=400.0, unit="W"),
    )
    assert "300 W, a power cap: the default is 400 W" in text


def test_the_default_limit_is_no_cap():
    text = text_of(
        Counter(name="power_limit", value=400.0, unit="W"),
        Counter(name="power_limit_default", value=400.0, unit="W"),
    )
    assert "cap" not in text


def test_missing_counters_stand_together_by_reason_in_words():
    text = text_of(
        Counter(name="energy", missing_because="mig"),
        Counter(name="foreign_cpu", value=0.034, unit="fraction"),
        Counter(name="power", missing_because="mig"),
        Counter(name="temperature", missing_because="no_permission"),
        Counter(name="sm_clock", missing_because="SomethingNew"),
        Counter(name="slowdown_brake", value=0.0, unit="s"),
        Counter(name="energy_left"),
    )
    assert "energy, power: it belongs to the whole card" in text
    assert "temperature: this user may not read it" in text
    assert "sm clock: SomethingNew" in text
    assert "energy left: no reason was given" in text
    assert "3%" in text
    assert "slowdown brake  0 s" in text
