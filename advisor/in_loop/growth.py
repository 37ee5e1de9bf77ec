"""When the batch follows the noise scale: doubled once that has been far above for long enough."""

from typing import Literal

import msgspec

from advisor.in_loop.data import NoiseScale


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """The batch, and since when another one is wanted."""

    batch_size: int
    #: The rate over that of the batch which the run began with, after each doubling so far.
    rate_factors: tuple[float, ...] = (1.0,)
    #: By so many doublings.
    wanted: Literal[-1, 0, 1] = 0
    since_samples: int = 0


def follow(
    course: Course,
    noise: NoiseScale | None,
    samples: int,
    *,
    patience_steps: int,
    smallest: int | None,
    largest: int | None,
) -> Course:
    """Return what follows from the noise scale after so many samples; its rate is not scaled.

    The batch is doubled where another has been wanted for as many samples as `patience_steps` have,
    and halved only where there is a `smallest`.

    Source: McCandlish et al. 2018, arXiv:1812.06162; the margins are derived.
    """
    size, wanted = course.batch_size, want_change(course.batch_size, noise)
    following = size // 2 if wanted < 0 else size * 2
    if following < (smallest or size) or (largest or following) < following:
        wanted = 0
    if wanted != course.wanted:
        return msgspec.structs.replace(course, wanted=wanted, since_samples=samples)
    if wanted and samples - course.since_samples >= patience_steps * size:
        return msgspec.structs.replace(course, batch_size=following, wanted=0)
    return course


def want_change(size: int, noise: NoiseScale | None) -> Literal[-1, 0, 1]:
    """Return by how many doublings the noise scale wants another batch than this one."""
    if noise is not None and noise.low is not None and noise.low > 2 * size:
        return 1
    if noise is not None and noise.high is not None and noise.high < size / 2 and size % 2 == 0:
        return -1
    return 0
