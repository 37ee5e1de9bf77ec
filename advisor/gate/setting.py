"""Whether two figures may be compared at all: what they depend on beside the code, in two tiers.

identity   the device, how it is partitioned and capped, the model's arguments: never compared
stack      driver, CUDA, torch, Python, processor: said, and gated only where that is asked for

Commit and date are recorded, and decide nothing.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence

from advisor.gate.data import Difference, Occasion, Setting, Tier

#: Memory is told to this many bytes: containers and drivers keep a little for themselves.
_MEMORY_GRAIN_BYTES = 1 << 30


def identify(setting: Setting) -> dict[str, str]:
    """Return what must be the same, by its name."""
    device = setting.environment.device
    identity = {
        "device": device.name,
        "memory": f"{round(device.memory_bytes / _MEMORY_GRAIN_BYTES)} GiB",
        "model": setting.target,
        "precision": setting.precision,
        "compile": "on" if setting.compile else "off",
        "micro-batch": str(setting.micro_batch_size),
        "settings": " ".join(f"{name}={value}" for name, value in sorted(setting.settings.items())),
        "arguments": " ".join(setting.arguments),
    }
    if setting.ranks > 1:
        identity["ranks"] = str(setting.ranks)
    counters = {each.name: each.value for each in setting.environment.counters}
    limit = counters.get("power_limit")
    if limit is not None:
        identity["power limit"] = f"{limit:.0f} W"
    return identity


def list_stack(setting: Setting) -> dict[str, str]:
    """Return what is below the code, by its name."""
    environment = setting.environment
    return {
        "driver": environment.driver or "none",
        "CUDA": environment.cuda or "none",
        "torch": environment.torch,
        "Python": environment.python,
        "processor": environment.cpu,
        "threads": str(environment.cpu_threads),
    }


def compare_settings(old: Setting, new: Setting) -> Iterator[Difference]:
    """Yield in what two settings differ."""
    tiers: dict[Tier, Callable[[Setting], dict[str, str]]] = {
        "identity": identify,
        "stack": list_stack,
    }
    for tier, see in tiers.items():
        was, now = see(old), see(new)
        for name in {**was, **now}:
            before, after = was.get(name) or "none", now.get(name) or "none"
            if before != after:
                yield Difference(tier=tier, name=name, old=before, new=after)


def list_differences(old: Sequence[Occasion], new: Sequence[Occasion]) -> tuple[Difference, ...]:
    """Return in what any occasion of the new side differs from the first of the old."""
    found: dict[tuple[str, str], Difference] = {}
    for occasion in (*old[1:], *new):
        differences = compare_settings(old[0].setting, occasion.setting)
        found |= {(each.tier, each.name): each for each in differences}
    return tuple(found.values())


def name_file(setting: Setting) -> str:
    """Return the name of the baseline's file: the device, and a fingerprint of the identity."""
    identity = "\n".join(f"{name}: {value}" for name, value in sorted(identify(setting).items()))
    device = re.sub(r"[^a-z0-9]+", "-", setting.environment.device.name.lower()).strip("-")
    return f"{device[:40] or 'device'}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json"
