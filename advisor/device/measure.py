"""The device and the software, as a fresh process sees them."""

import itertools
import platform
import time

import torch

from advisor.device import cpu, nvml
from advisor.device.catalogue import recognise_gpu
from advisor.device.data import DeviceFacts, Environment

_CLOCK_READINGS = 1000


def see_environment(device: torch.device) -> Environment:
    """Return the device and the software."""
    facts = _device_facts(device)
    is_nvidia = facts.vendor == "nvidia"
    card = recognise_gpu(facts.name) if is_nvidia else None
    readings = [time.perf_counter() for _ in range(_CLOCK_READINGS)]
    uuid = str(torch.cuda.get_device_properties(device).uuid) if is_nvidia else None
    return Environment(
        device=facts,
        torch=str(torch.__version__),
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        cpu=cpu.cpu_name(),
        cpu_threads=torch.get_num_threads(),
        driver=nvml.driver_version(),
        cuda=torch.version.cuda,
        timer_resolution_s=min(b - a for a, b in itertools.pairwise(readings) if b > a),
        peak_flops={} if card is None else card.peak_flops,
        bandwidth_bytes_per_s=None if card is None else card.bandwidth_bytes_per_s,
        counters=nvml.read_counters(uuid, reason=nvml.missing_gpu_reason(facts.kind)),
    )


def _device_facts(device: torch.device) -> DeviceFacts:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        # Reading the free memory creates this process's context, which is thus taken off.
        free, _ = torch.cuda.mem_get_info(device)
        return DeviceFacts(
            kind="cuda",
            name=properties.name,
            memory_bytes=properties.total_memory,
            available_bytes=free,
            index=device.index,
            uuid_hash=nvml.hash_uuid(str(properties.uuid)),
            vendor="amd" if torch.version.hip else "nvidia",
        )
    if device.type == "mps":
        limit = torch.mps.recommended_max_memory()
        return DeviceFacts(
            kind="mps",
            name=cpu.cpu_name(),
            memory_bytes=limit,
            available_bytes=limit - torch.mps.driver_allocated_memory(),
            vendor="apple",
        )
    return DeviceFacts(
        kind="cpu",
        name=cpu.cpu_name(),
        memory_bytes=cpu.total_memory_bytes(),
        available_bytes=cpu.available_memory_bytes(),
    )
