"""bsadvisor: which batch size, and with it which learning rate, to train with on this GPU.

cli -> engine: for each question of `questions` -> its stage -> task =(process)=> its measure
 ^                                                     ^                              |
 +-- report <- tell <- plan: what follows <- record <--+----------- results ----------+
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advisor.in_loop.monitor import NoiseScaleMonitor
    from advisor.in_loop.schedule import BatchSizeSchedule

__all__ = ["BatchSizeSchedule", "NoiseScaleMonitor", "__version__"]
__version__ = "0.1.0"

#: What a user's own loop takes from here, and where it stands: the command line loads none of it.
_IN_LOOP = {
    "NoiseScaleMonitor": "advisor.in_loop.monitor",
    "BatchSizeSchedule": "advisor.in_loop.schedule",
}


def __getattr__(name: str) -> Any:
    if name in _IN_LOOP:
        return getattr(importlib.import_module(_IN_LOOP[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
