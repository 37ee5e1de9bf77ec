from advisor.device.processor import read_processor_counters


def test_each_counter_has_a_value_or_a_reason():
    counters = {counter.name: counter for counter in read_processor_counters()}
    assert set(counters) == {"foreign_cpu", "cpu_energy"}
    assert all((each.value is None) != (each.missing_because is None) for each in counters.values())
    assert 0.0 <= counters["foreign_cpu"].value <= 1.0
