from advisor.device.data import Counter
from advisor.device.power_cap import PowerCap, find_power_cap


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
