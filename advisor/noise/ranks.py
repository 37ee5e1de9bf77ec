"""Gradient moments of several ranks, made one."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from advisor.noise.data import GradientMoments, NoiseBatches


def merge_shards(results: Mapping[int, Sequence[NoiseBatches]]) -> list[NoiseBatches]:
    """Return the first rank's; where ranks share the parameters, with the sums over their parts.

    Squared norms and products are sums over the elements of the gradient.
    """
    merged = []
    for own in results.get(0, ()):
        parts = [
            each
            for rank, batches in results.items()
            for each in batches
            if rank and each.at_step == own.at_step
        ]
        others = [part.preconditioned for part in parts if part.preconditioned is not None]
        whole = own.preconditioned
        merged.append(
            replace(
                own,
                plain=_add(own.plain, [part.plain for part in parts]),
                preconditioned=None if whole is None else _add(whole, others),
            )
        )
    return merged


def _add(own: GradientMoments, others: Sequence[GradientMoments]) -> GradientMoments:
    everything = [own, *others]
    return GradientMoments(
        group_sqnorms=tuple(
            map(sum, zip(*(each.group_sqnorms for each in everything), strict=True))
        ),
        group_dots=tuple(map(sum, zip(*(each.group_dots for each in everything), strict=True))),
        total_sqnorm=sum(each.total_sqnorm for each in everything),
    )
