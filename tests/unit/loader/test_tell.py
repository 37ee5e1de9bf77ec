"""A script's loader is told by the share of its time that it waits."""

import pytest

from advisor.loader.tell import brief_loader, tell_loader
from advisor.memory.data import Probe
from tests.unit.samples import conclude, make_record


def conclude_waits(shares):
    probes = [
        Probe(
            stage="throughput",
            session=session,
            micro_batch_size=size,
            outcome="fit",
            waiting_fraction=share,
        )
        for size, each in shares.items()
        for session, share in enumerate(each)
    ]
    return conclude(make_record(probes=probes, no_loader=False), loader=None)


@pytest.mark.parametrize(
    ("shares", "row", "brief"),
    [
        (
            {32: (0.1, 0.2, 0.9), 128: (0.5,), 64: (0.3,)},
            "20 % of the time at batch 32, 50 % of the time at batch 128",
            "20 % of the time at batch 32",
        ),
        ({1024: (0.4,)}, "40 % of the time at batch 1,024", "40 % of the time at batch 1,024"),
    ],
)
def test_the_ends_are_told_and_in_brief_the_users_own_batch(shares, row, brief):
    conclusions = conclude_waits(shares)
    assert tell_loader(conclusions).rows[0].text == f"your loop waits for data {row}"
    assert brief_loader(conclusions).text == f"waits for data {brief}"


def test_without_any_nothing_is_told():
    conclusions = conclude_waits({32: (None,)})
    assert tell_loader(conclusions).rows == ()
    assert brief_loader(conclusions) is None
