import msgspec
from rich.console import Console

from advisor.device.counters import PowerCap, find_power_cap
from advisor.device.data import Counter, DeviceFacts, Telemetry
from advisor.device.tell import describe_missing_counters, tell_machine
from advisor.report.console import write_facts
from tests.unit.report.sample_run import build_environment


def limits(limit_w, default_w):
    return (
        Counter(name="power_limit", value=limit_w, unit="W"),
        Counter(name="power_limit_default", value=default_w, unit="W"),
    )


def test_a_limit_below_the_default_is_a_cap():
    assert find_power_cap(limits(300.0, 400.0)) == PowerCap(300.0, 400.0)


def test_the_default_itself_and_more_is_none():
    assert find_power_cap(limits(400.0, 400.0)) is None
    assert find_power_cap(limits(450.0, 400.0)) is None


def test_unknown_limits_tell_of_none():
    assert find_power_cap(limits(300.0, None)) is None
    assert find_power_cap(limits(None, 400.0)) is None
    assert find_power_cap(()) is None


def text_of(*counters):
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        environment = msgspec.structs.replace(build_environment(), counters=counters)
        write_facts(console, tell_machine(environment))
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


CPU = msgspec.structs.replace(
    build_environment(),
    device=DeviceFacts(kind="cpu", name="Example CPU", memory_bytes=2**34, available_bytes=2**33),
)


def describe(*sessions, environment=None):
    telemetry = tuple(
        Telemetry(
            session=number,
            counters=tuple(Counter(name=name, missing_because=why) for name, why in each),
        )
        for number, each in enumerate(sessions)
    )
    return describe_missing_counters(telemetry, environment or build_environment())


def test_nothing_is_said_where_nothing_is_missing():
    assert describe() is None
    assert describe([]) is None


def test_what_is_missing_comes_with_its_reason_the_energy_first():
    assert describe([("sm_clock", "mig"), ("energy", "no_permission")]) == (
        "no energy (no_permission); no clocks (mig)"
    )


def test_counters_of_one_reason_stand_together_and_those_that_do_not_matter_are_left_out():
    missing = [("slowdown_thermal", "mig"), ("energy", "mig"), ("slowdown_sync_boost", "mig")]
    assert describe(missing) == "no energy, heat (mig)"


def test_a_cpu_is_not_asked_for_the_counters_of_a_gpu():
    missing = [("energy", "no_permission"), ("power", "no_device"), ("sm_clock", "no_device")]
    assert describe(missing, environment=CPU) == "no energy (no_permission)"
    assert describe(missing[1:], environment=CPU) is None


def test_a_gpu_that_was_not_found_lacks_them_all():
    assert describe([("energy", "no_device"), ("power", "no_device")]) == (
        "no energy, power (no_device)"
    )


def test_a_counter_that_some_sessions_have_says_in_how_many_it_is_missing():
    assert describe([], [("energy", "was_reset")], []) == "no energy (was_reset, 1 of 3 sessions)"


def test_processes_that_are_not_listed_hide_later_neighbours():
    assert describe([("own_memory", "pids_not_listed")]) == (
        "no memory of others that came later (pids_not_listed)"
    )
