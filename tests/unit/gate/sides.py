"""Occasions whose figures are made up."""

import msgspec

from advisor.gate.data import Occasion, Peak, Session, Setting
from tests.unit.samples import ENVIRONMENT

SETTING = Setting(target="model.py", micro_batch_size=32, environment=ENVIRONMENT)


def make_occasion(*step_s, numbers=None, peaks=(), operators=None, setting=SETTING, **session):
    """Return an occasion with one session for each time of a step."""
    sessions = tuple(
        Session(number=number, step_s=(seconds,), **session)
        for number, seconds in zip(numbers or range(len(step_s)), step_s, strict=True)
    )
    return Occasion(
        recorded_at="2026-01-01T00:00:00+00:00",
        tool_version="0.1.0",
        setting=setting,
        sessions=sessions,
        peaks=tuple(Peak(micro_batch_size=size, peak_bytes=peak) for size, peak in peaks),
        operators=operators,
    )


def change_environment(**fields):
    """Return the setting in another environment."""
    environment = msgspec.structs.replace(ENVIRONMENT, **fields)
    return msgspec.structs.replace(SETTING, environment=environment)
