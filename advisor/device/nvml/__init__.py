"""Counters of an NVIDIA GPU through NVML, each optional with the reason why it is missing.

A device is found by its UUID: NVML's index is the bus order and may differ from CUDA's. Reasons:
`not_supported`, `no_permission`, `no_driver`, `no_device`, `mig` (the counter belongs to the whole
card, of which we have an instance), `not_nvidia`, `pids_not_listed`.
"""

from advisor.device.nvml.cards import driver_version, hash_uuid
from advisor.device.nvml.counters import missing_gpu_reason, opened_gpu, read_counters

__all__ = ["driver_version", "hash_uuid", "missing_gpu_reason", "opened_gpu", "read_counters"]
