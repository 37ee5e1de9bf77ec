import msgspec

from advisor.device.data import Counter, DeviceFacts, Telemetry
from advisor.device.tell import describe_missing_counters
from tests.unit.report.sample_run import build_environment

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
