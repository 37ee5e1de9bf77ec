"""What the user's settings of torch's allocator mean for its limit."""

from collections.abc import Mapping

from advisor.predict.allocator import LARGE_SEGMENT_BYTES

#: Where torch reads them, the first that is there; 2.9 knows the first.
_NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def has_expandable_segments(environment: Mapping[str, str]) -> bool:
    """Return whether segments grow, page by page."""
    settings = next((environment[name] for name in _NAMES if name in environment), "")
    return "expandable_segments:True" in settings


def lower_limit(capacity_bytes: int, environment: Mapping[str, str]) -> int:
    """Return the limit of a probe.

    Which pages of expandable segments come and go near the limit is another in each loop: one is
    kept free for what the user's own has.
    """
    if not has_expandable_segments(environment):
        return capacity_bytes
    return max(1, capacity_bytes - LARGE_SEGMENT_BYTES)
