"""The counters of a real card; skipped with its reason where there is none."""

import os
import time

import pytest
import torch

from advisor.device.data import DeviceFacts
from advisor.device.nvml.cards import hash_uuid
from advisor.device.telemetry import sampled

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.version.hip is not None, reason="no NVIDIA device here"
)


def test_the_card_that_torch_computes_on_is_found_and_its_energy_is_its_power_times_time():
    uuid = str(torch.cuda.get_device_properties(0).uuid)
    device = DeviceFacts(
        kind="cuda", name="", memory_bytes=1, available_bytes=1, uuid_hash=hash_uuid(uuid)
    )
    with sampled(device, session=0, own_pid=os.getpid(), interval_s=0.1) as read:
        factor = torch.randn(4096, 4096, device="cuda")
        end_s = time.monotonic() + 5.0
        while time.monotonic() < end_s:
            for _ in range(20):
                factor @ factor
            torch.cuda.synchronize()
    seen = read()
    reasons = {each.missing_because for each in seen.counters}
    assert not reasons & {"no_device", "no_driver"}
    if not (seen.energy_j and seen.power_w):
        pytest.skip("the card counts no energy")
    middle = len(seen.at_s) // 2  # the power meter averages: only once the load is steady
    spent_w = (seen.energy_j[-2] - seen.energy_j[middle]) / (seen.at_s[-2] - seen.at_s[middle])
    drawn_w = sum(seen.power_w[middle:-1]) / len(seen.power_w[middle:-1])
    assert spent_w == pytest.approx(drawn_w, rel=0.1)
