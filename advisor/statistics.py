"""Estimates with intervals, and the few rules of statistics that make them."""

import msgspec


class Estimate(msgspec.Struct, frozen=True):
    """A quantity with its confidence interval; an unknown bound is None, never a made-up number."""

    point: float | None
    low: float | None
    high: float | None
    confidence: float = 0.95
