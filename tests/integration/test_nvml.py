"""The GPU's counters through the real pynvml, against a stand-in for the driver's library."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from advisor.device.nvml.cards import hash_uuid
from advisor.device.nvml.counters import GPU_COUNTERS

SOURCE = Path(__file__).resolve().parents[1] / "stand_in" / "cuda" / "nvml.c"
COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is a Linux library"),
    pytest.mark.skipif(COMPILER is None, reason="no C compiler here"),
]

GIB = 1 << 30
BIG = "GPU-aaaaaaaa-0000-0000-0000-000000000001"
SMALL = "GPU-8932f937-0000-0000-0000-000000000002"
INSTANCES = ("MIG-bbbbbbbb-0000-0000-0000-000000000003", "MIG-cccccccc-0000-0000-0000-000000000004")

#: One card of which everything is known.
ONE_CARD = {
    "cards": 1,
    "uuid.0": BIG,
    "name.0": "Imaginary 9000",
    "power": 250_000,
    "power_limit": 300_000,
    "power_limit_default": 400_000,
    "sm_clock": 1410,
    "memory_clock": 1593,
    "temperature": 61,
    "energy": 5_000_000,
    "memory": 3 * GIB,
    "reserved": GIB // 2,
    "field_74": 7_000_000_000,
    "field_75": 1_000_000_000,
    "field_76": 0,
    "field_77": 0,
    "field_78": 0,
    "field_79": 0,
    "field_269": 2_000_000_000,
    "field_270": 3_000_000_000,
    "field_271": 4_000_000_000,
}
#: Two cards of two kinds: the bus has the smaller one first, CUDA the faster one.
TWO_CARDS = {
    **ONE_CARD,
    "cards": 2,
    "uuid.0": SMALL,
    "uuid.1": BIG,
    "name.0": "Imaginary 100",
    "name.1": "Imaginary 9000",
    "power.0": 20_000,
    "power.1": 700_000,
}
MIG_CARD = {**ONE_CARD, "instances.0": ",".join(INSTANCES)}

PRELUDE = """
import json, os, sys, time
from advisor.device import nvml
from advisor.device.telemetry import sampled
from advisor.device.data import DeviceFacts

def write(settings):
    path = os.environ["STAND_IN_NVML"]
    with open(path + ".new", "w") as file:
        file.writelines(f"{key}={value}\\n" for key, value in settings.items())
    os.replace(path + ".new", path)

def answer(value):
    print(json.dumps(value))

def counters(uuid):
    return {each.name: each.missing_because or each.value for each in nvml.read_counters(uuid)}

def device(uuid, **facts):
    facts = {"kind": "cuda", "name": "", "memory_bytes": 1, "available_bytes": 1} | facts
    return DeviceFacts(uuid_hash=uuid and nvml.hash_uuid(uuid), **facts)

def sample(uuid, *changes, own_pid=os.getpid()):
    with sampled(device(uuid), session=3, own_pid=own_pid, interval_s=60.0) as read:
        for settings in changes:
            write(settings)
            read()
        telemetry = read()
    return telemetry

def missing(telemetry):
    return {each.name: each.missing_because for each in telemetry.counters}
"""


@pytest.fixture(scope="module")
def compile_library(tmp_path_factory):
    """Return a function that gives the directory of a library without some symbols."""
    built = {}

    def compile_without(*symbols):
        if symbols not in built:
            built[symbols] = tmp_path_factory.mktemp("nvml")
            library = built[symbols] / "libnvidia-ml.so.1"
            options = [f"-DWITHOUT_{symbol}" for symbol in symbols]
            command = [COMPILER, "-shared", "-fPIC", *options, "-o", str(library), str(SOURCE)]
            subprocess.run(command, check=True)
        return built[symbols]

    return compile_without


@pytest.fixture
def ask(compile_library, tmp_path):
    """Return a function that runs a script beside a stand-in and returns its answer."""

    def run(machine, script, *, without=(), **environment):
        path = tmp_path / "machine.txt"
        path.write_text("".join(f"{key}={value}\n" for key, value in machine.items()))
        code = f"{PRELUDE}\nMACHINE = {machine!r}\n{textwrap.dedent(script)}"
        inherited = {key: text for key, text in os.environ.items() if not key.startswith("CUDA_")}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=inherited
            | {"LD_LIBRARY_PATH": str(compile_library(*without)), "STAND_IN_NVML": str(path)}
            | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_every_counter_is_read_in_its_unit(ask):
    assert ask(ONE_CARD, f"answer(counters({BIG!r}))") == {
        "energy": 5000.0,
        "power": 250.0,
        "power_limit": 300.0,
        "power_limit_default": 400.0,
        "temperature": 61.0,
        "sm_clock": 1410.0,
        "memory_clock": 1593.0,
        "memory_used": 3.0 * GIB,
        "slowdown_power_cap": 7.0,
        "slowdown_thermal": 5.0,
        "slowdown_brake": 4.0,
        "slowdown_sync_boost": 0.0,
        "slowdown_board_limit": 0.0,
        "slowdown_low_utilization": 0.0,
        "slowdown_reliability": 0.0,
    }


def test_the_driver_tells_its_version(ask):
    assert ask({**ONE_CARD, "driver": "570.10"}, "answer(nvml.driver_version())") == "570.10"


@pytest.mark.parametrize(("uuid", "power_w"), [(SMALL, 20.0), (BIG, 700.0)])
@pytest.mark.parametrize("order", ["FASTEST_FIRST", "PCI_BUS_ID"])
def test_a_card_is_found_by_its_uuid_whatever_the_order(ask, uuid, power_w, order):
    bare = uuid.removeprefix("GPU-")  # as torch writes it
    script = f"answer([counters({bare!r})['power'], sample({bare!r}).power_w[0]])"
    assert ask(TWO_CARDS, script, CUDA_DEVICE_ORDER=order) == [power_w, power_w]


def test_without_a_uuid_no_card_is_guessed(ask):
    reasons = ask(TWO_CARDS, "answer(missing(sample(None)))")
    assert reasons == dict.fromkeys(GPU_COUNTERS, "no_device")


def test_a_uuid_that_no_card_has_is_no_device(ask):
    assert set(ask(ONE_CARD, f"answer(counters({SMALL!r}))").values()) == {"no_device"}


def test_a_card_that_may_not_be_touched_does_not_hide_the_other(ask):
    machine = {**TWO_CARDS, "fail.card.0": 4}
    assert ask(machine, f"answer(counters({BIG!r})['power'])") == 700.0


def test_a_mig_instance_has_its_memory_and_none_of_the_cards_counters(ask):
    machine = {**MIG_CARD, "memory": GIB}
    bare = INSTANCES[1].removeprefix("MIG-")
    seen = ask(machine, f"answer(counters({bare!r}))")
    assert seen.pop("memory_used") == GIB
    assert set(seen.values()) == {"mig"}
    script = f"t = sample({bare!r}); answer([t.foreign_memory_bytes, missing(t)])"
    memory_bytes, reasons = ask(machine, script)
    assert set(memory_bytes) == {GIB}
    assert reasons == {
        "own_memory": "pids_not_listed",
        **{name: "mig" for name in GPU_COUNTERS if name != "foreign_memory"},
    }


def test_a_card_told_for_its_instance_is_never_read_as_the_instance(ask):
    seen = ask(MIG_CARD, f"answer(counters({BIG!r}))")
    assert set(seen.values()) == {"mig"}
    script = f"answer(counters({BIG!r})['memory_used'])"
    assert ask(MIG_CARD, script, CUDA_VISIBLE_DEVICES=INSTANCES[0]) == 3 * GIB
    assert ask(MIG_CARD, script, CUDA_VISIBLE_DEVICES="MIG-cccc,MIG-bbbb") == 3 * GIB
    assert ask(MIG_CARD, script, CUDA_VISIBLE_DEVICES="MIG-") == "mig"


def test_a_card_cut_into_one_instance_or_none_is_that_instance_or_nothing(ask):
    script = f"answer(counters({BIG!r}))"
    seen = ask({**ONE_CARD, "instances.0": INSTANCES[0]}, script)
    assert seen.pop("memory_used") == 3 * GIB
    assert set(seen.values()) == {"mig"}
    assert set(ask({**ONE_CARD, "instances.0": ""}, script).values()) == {"mig"}


@pytest.mark.parametrize(
    ("code", "reason"), [(3, "not_supported"), (4, "no_permission"), (15, "no_device")]
)
def test_one_counter_that_fails_leaves_the_others(ask, code, reason):
    seen = ask({**ONE_CARD, "fail.power": code}, f"answer(counters({BIG!r}))")
    assert seen["power"] == reason
    assert sum(isinstance(value, str) for value in seen.values()) == 1


def test_a_library_without_its_driver_is_no_driver(ask):
    seen = ask({**ONE_CARD, "fail.init": 9}, f"answer([counters({BIG!r}), nvml.driver_version()])")
    assert set(seen[0].values()) == {"no_driver"}
    assert seen[1] is None


def test_an_old_library_lacks_what_it_lacks_and_gives_the_rest(ask):
    machine = {**ONE_CARD, "policy_0": 11_000_000_000, "policy_1": 12_000_000_000}
    without = ("ENERGY", "FIELDS", "NEW_MEMORY", "NEW_PROCESSES", "NEW_TEMPERATURE")
    seen = ask(machine, f"answer(counters({BIG!r}))", without=without)
    assert seen["energy"] == seen["slowdown_brake"] == "not_supported"
    assert seen["slowdown_power_cap"] == 11.0
    assert seen["slowdown_thermal"] == 12.0
    assert seen["temperature"] == 61.0
    assert seen["memory_used"] == 3.5 * GIB  # the older function counts what the driver keeps
    script = f"""
    machine = MACHINE | {{"processes": f"{{os.getpid()}}:{GIB}"}}
    answer(sample({BIG!r}, machine).foreign_memory_bytes[-1])
    """
    assert ask(machine, script, without=without) == 2.5 * GIB


def test_a_new_library_without_the_old_temperature_still_has_one(ask):
    script = f"answer(counters({BIG!r})['temperature'])"
    assert ask(ONE_CARD, script, without=("OLD_TEMPERATURE",)) == 61.0


@pytest.mark.parametrize(
    ("driver", "fields", "brake"),
    [
        ("590.48.01", {271: 4_000_000_000}, 4.0),
        ("580.82.07", {271: 4_000_000_000}, 4.0),
        ("580.65.06", {253: 4_000_000_000, 271: 9_000_000_000}, 4.0),
        ("575.51.03", {253: 4_000_000_000, 271: 9_000_000_000}, 4.0),
        ("580.70", {253: 4_000_000_000, 271: 9_000_000_000}, "not_supported"),
        ("570.86.10", {253: 4_000_000_000, 271: 9_000_000_000}, "not_supported"),
    ],
)
def test_a_fields_number_is_that_of_the_driver_not_of_pynvml(ask, driver, fields, brake):
    machine = {key: value for key, value in ONE_CARD.items() if key != "field_271"}
    machine |= {"driver": driver, **{f"field_{number}": ns for number, ns in fields.items()}}
    assert ask(machine, f"answer(counters({BIG!r})['slowdown_brake'])") == brake


def test_a_field_of_another_meaning_is_not_taken_for_a_counter(ask):
    machine = {key: value for key, value in ONE_CARD.items() if key != "field_271"}
    script = f"answer(counters({BIG!r})['slowdown_brake'])"
    assert ask({**machine, "narrow_271": 1}, script) == "not_supported"


def test_a_slowdown_that_rises_is_seen_by_its_cause(ask):
    script = f"""
    later = MACHINE | {{"field_270": 3_500_000_000, "field_74": 9_000_000_000}}
    answer(sample({BIG!r}, MACHINE, later).slowdown_s)
    """
    slowdown_s = ask(ONE_CARD, script)
    assert slowdown_s["thermal"] == [5.0, 5.0, 5.5, 5.5]
    assert slowdown_s["power_cap"] == [7.0, 7.0, 9.0, 9.0]
    assert slowdown_s["brake"] == [4.0] * 4


def test_a_cause_keeps_to_one_counter_when_another_comes_and_goes(ask):
    script = f"""
    gone = {{key: value for key, value in MACHINE.items() if key != "field_270"}}
    telemetry = sample({BIG!r}, gone, MACHINE)
    answer(["thermal" in telemetry.slowdown_s, missing(telemetry)])
    """
    is_kept, reasons = ask(ONE_CARD, script)
    assert not is_kept
    assert reasons["slowdown_thermal"] == "not_supported"


def test_energy_rises_as_time_times_power(ask):
    script = f"""
    with sampled(device({BIG!r}), session=0, own_pid=os.getpid(), interval_s=0.01) as read:
        time.sleep(0.2)
        telemetry = read()
    answer([telemetry.at_s, telemetry.energy_j])
    """
    at_s, energy_j = ask({**ONE_CARD, "energy_rate": 250_000}, script)
    assert len(at_s) == len(energy_j) > 3
    assert at_s == sorted(at_s)
    watts = (energy_j[-1] - energy_j[0]) / (at_s[-1] - at_s[0])
    assert watts == pytest.approx(250.0, rel=0.1)


def test_an_energy_counter_that_was_set_back_is_left_out(ask):
    script = f"""
    telemetry = sample({BIG!r}, MACHINE | {{"energy": 1000}})
    answer([telemetry.energy_j, missing(telemetry)["energy"]])
    """
    assert ask(ONE_CARD, script) == [[], "was_reset"]


def test_a_counter_that_fails_later_is_left_out_altogether(ask):
    script = f"""
    telemetry = sample({BIG!r}, MACHINE, MACHINE | {{"fail.power": 4}}, MACHINE)
    answer([telemetry.power_w, missing(telemetry)["power"], len(telemetry.at_s),
            len(telemetry.sm_clock_mhz)])
    """
    power_w, reason, samples, clocks = ask(ONE_CARD, script)
    assert (power_w, reason) == ([], "no_permission")
    assert clocks == samples == 5


def test_memory_of_others_is_what_our_processes_do_not_hold(ask):
    script = f"""
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    own = f"processes", f"{{child.pid}}:{2 * GIB},1:{GIB}"
    alone = MACHINE | {{"memory": {GIB}, "processes": "1:{GIB}"}}
    write(alone)
    telemetry = sample({BIG!r}, MACHINE | dict([own]), MACHINE | dict([own], memory={5 * GIB}))
    child.communicate(b"\\n")
    answer([telemetry.foreign_memory_bytes, missing(telemetry)])
    """
    memory_bytes, reasons = ask(ONE_CARD, script)
    assert [memory_bytes[0], memory_bytes[1], memory_bytes[-1]] == [GIB, GIB, 3 * GIB]
    assert reasons == {}


def test_where_our_processes_are_never_listed_the_first_reading_serves_and_is_told(ask):
    script = f"""
    later = MACHINE | {{"memory": {9 * GIB}, "processes": "4000001:{6 * GIB}"}}
    telemetry = sample({BIG!r}, later)
    answer([telemetry.foreign_memory_bytes, missing(telemetry)])
    """
    memory_bytes, reasons = ask(ONE_CARD, script)
    assert set(memory_bytes) == {3 * GIB}
    assert reasons == {"own_memory": "pids_not_listed"}


def test_sampling_without_permission_to_list_processes_goes_on(ask):
    telemetry = ask(
        {**ONE_CARD, "fail.processes": 4},
        f"answer(sample({BIG!r}).foreign_memory_bytes)",
    )
    assert set(telemetry) == {3 * GIB}


def test_a_card_of_another_maker_is_named_so(ask):
    script = f"""
    facts = device({BIG!r}, vendor="amd")
    with sampled(facts, session=0, own_pid=os.getpid()) as read:
        telemetry = read()
    answer([missing(telemetry), len(telemetry.foreign_cpu_fraction), len(telemetry.at_s)])
    """
    reasons, loads, samples = ask(ONE_CARD, script)
    assert reasons == dict.fromkeys(GPU_COUNTERS, "not_nvidia")
    assert loads == samples


def test_torch_and_nvml_name_a_device_alike():
    bare = BIG.removeprefix("GPU-")
    assert hash_uuid(bare) == hash_uuid(BIG) == hash_uuid(f"MIG-{bare}")
    assert hash_uuid(BIG) != hash_uuid(SMALL)
