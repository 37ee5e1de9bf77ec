from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.predict.allocator import (
    GRANULE_BYTES,
    MIB,
    Block,
    CachingAllocator,
    OutOfDeviceMemoryError,
    choose_segment_bytes,
    round_up,
)

SIZES = st.one_of(
    st.integers(1, 4096),
    st.integers(1, 2 * MIB),
    st.integers(MIB, 12 * MIB),
    st.integers(9 * MIB, 60 * MIB),
    st.sampled_from([512, MIB, MIB + 1, 2 * MIB, 10 * MIB - 1, 10 * MIB, 20 * MIB, 21 * MIB]),
)
#: A request, or the free of the live block at this place (modulo how many there are).
STEPS = st.lists(st.one_of(SIZES, st.integers(0, 40).map(lambda i: -1 - i)), max_size=120)
CAPS = st.sampled_from([None, 40 * MIB, 64 * MIB, 101 * MIB, 200 * MIB])


def replay(
    steps: list[int], allocator: CachingAllocator, check: bool = False
) -> tuple[list[Block], list[tuple[int, int, bool]]]:
    """Return the live blocks, and what every served request got."""
    live: list[Block] = []
    served = []
    for step in steps:
        if step > 0:
            try:
                block = allocator.allocate(step)
            except OutOfDeviceMemoryError:
                continue
            live.append(block)
            served.append((block.address, block.size, block.pool is allocator.pools[0]))
        elif live:
            allocator.free(live.pop((-1 - step) % len(live)))
        if check:
            check_invariants(allocator, live)
    return live, served


def list_segments(allocator: CachingAllocator, live: list[Block]) -> list[list[Block]]:
    """Return the blocks of every segment in the order of their addresses."""
    known = list(live)
    for pool in allocator.pools:
        known += [block for *_, block in pool.free] + [block for _, block in pool.unmapped]
    segments = []
    for head in (block for block in known if block.before is None):
        segment, block = [], head
        while block is not None:
            segment.append(block)
            block = block.after
        segments.append(segment)
    assert {id(block) for segment in segments for block in segment} == {id(b) for b in known}
    return segments


def check_invariants(allocator: CachingAllocator, live: list[Block]) -> None:
    free_bytes = sum(size for pool in allocator.pools for size, _, _ in pool.free)
    assert allocator.allocated_bytes == sum(block.size for block in live)
    assert allocator.allocated_bytes + free_bytes == allocator.reserved_bytes
    assert not any(block.is_free for block in live)
    for pool in allocator.pools:
        assert [entry[:2] for entry in pool.free] == sorted(
            (b.size, b.address) for *_, b in pool.free
        )
        assert [entry[0] for entry in pool.unmapped] == sorted(b.address for _, b in pool.unmapped)
        assert all(block.is_free and block.is_mapped for *_, block in pool.free)
        assert all(block.is_free and not block.is_mapped for _, block in pool.unmapped)
    ranges = []
    for segment in list_segments(allocator, live):
        for before, after in pairwise(segment):
            assert after.before is before
            assert before.address + before.size == after.address
            are_alike = before.is_mapped == after.is_mapped
            assert not (before.is_free and after.is_free and are_alike)
        ranges += [(block.address, block.address + block.size) for block in segment]
    ranges.sort()
    assert all(a[1] <= b[0] for a, b in pairwise(ranges))
    assert all(a < b and a % GRANULE_BYTES == 0 for a, b in ranges)


@given(STEPS, CAPS, st.booleans())
def test_blocks_never_overlap_and_bytes_are_conserved(steps, cap, expandable):
    allocator = CachingAllocator(cap, expandable_segments=expandable)
    replay(steps, allocator, check=True)
    assert allocator.peak_allocated_bytes <= allocator.peak_reserved_bytes
    assert cap is None or allocator.peak_reserved_bytes <= cap


@given(STEPS, CAPS, st.booleans())
def test_two_replays_are_the_same(steps, cap, expandable):
    runs = []
    for _ in range(2):
        allocator = CachingAllocator(cap, expandable_segments=expandable)
        _, served = replay(steps, allocator)
        runs.append((served, allocator.retries, allocator.peak_reserved_bytes))
    assert runs[0] == runs[1]


@given(STEPS, CAPS, st.booleans())
def test_with_everything_freed_each_segment_is_one_free_block(steps, cap, expandable):
    allocator = CachingAllocator(cap, expandable_segments=expandable)
    live, _ = replay(steps, allocator)
    for block in live:
        allocator.free(block)
    check_invariants(allocator, [])
    assert allocator.allocated_bytes == 0
    segments = list_segments(allocator, [])
    assert expandable or all(len(segment) == 1 for segment in segments)
    allocator.release_cached()
    assert allocator.reserved_bytes == 0
    segments = list_segments(allocator, [])
    assert [len(segment) for segment in segments] == ([1, 1] if expandable else [])


class NaiveAllocator:
    """The native rules by plain search over all blocks: [address, size, is_free, segment]."""

    def __init__(self, cap: int | None) -> None:
        self.cap, self.blocks, self.next, self.retries = cap, [], 0, 0

    def reserved(self) -> int:
        return sum(block[1] for block in self.blocks)

    def allocate(self, request: int) -> list | None:
        size = round_up(request, 512)
        is_small = size <= MIB
        fitting = [b for b in self.blocks if b[2] and b[1] >= size and b[3][1] == is_small]
        if fitting:
            block = min(fitting, key=lambda b: (b[1], b[0]))
        else:
            block = self.reserve(size, is_small)
            if block is None:
                self.retries += 1
                busy = {b[3] for b in self.blocks if not b[2]}
                self.blocks = [b for b in self.blocks if b[3] in busy]
                block = self.reserve(size, is_small)
                if block is None:
                    return None
        rest = block[1] - size
        if (rest >= 512) if is_small else (rest > MIB):
            self.blocks.append([block[0] + size, rest, True, block[3]])
            block[1] = size
        block[2] = False
        return block

    def reserve(self, size: int, is_small: bool) -> list | None:
        segment = choose_segment_bytes(size)
        if self.cap is not None and self.reserved() + segment > self.cap:
            return None
        block = [self.next, segment, True, (self.next, is_small)]
        self.next += segment
        self.blocks.append(block)
        return block

    def free(self, block: list) -> None:
        block[2] = True
        self.blocks.sort(key=lambda b: b[0])
        merged: list[list] = []
        for b in self.blocks:
            if merged and merged[-1][2] and b[2] and merged[-1][3] == b[3]:
                merged[-1][1] += b[1]
            else:
                merged.append(b)
        self.blocks = merged


@given(STEPS, CAPS)
def test_the_native_allocator_agrees_with_a_plain_search(steps, cap):
    naive, live, expected = NaiveAllocator(cap), [], []
    for step in steps:
        if step > 0:
            block = naive.allocate(step)
            if block is not None:
                live.append(block)
                expected.append((block[0], block[1], block[3][1]))
        elif live:
            naive.free(live.pop((-1 - step) % len(live)))
    allocator = CachingAllocator(cap)
    _, served = replay(steps, allocator)
    assert served == expected
    assert allocator.retries == naive.retries
    assert allocator.reserved_bytes == naive.reserved()


@pytest.mark.parametrize(
    ("request_bytes", "reserved_bytes"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 512, 12 * MIB),
        (33 * MIB, 34 * MIB),
    ],
)
def test_a_native_segment_has_the_size_that_torch_reserves(request_bytes, reserved_bytes):
    allocator = CachingAllocator()
    allocator.allocate(request_bytes)
    assert allocator.reserved_bytes == allocator.peak_reserved_bytes == reserved_bytes


def test_requests_are_rounded_to_512_bytes():
    allocator = CachingAllocator()
    assert [allocator.allocate(size).size for size in (1, 512, 513)] == [512, 512, 1024]


def test_the_smallest_free_block_that_fits_is_taken_and_the_lowest_of_equals():
    allocator = CachingAllocator()
    blocks = [allocator.allocate(mib * MIB) for mib in (12, 40, 20, 30, 20)]
    for block in (blocks[1], blocks[4], blocks[2]):
        allocator.free(block)
    assert allocator.allocate(18 * MIB).address == blocks[2].address
    assert allocator.allocate(20 * MIB).address == blocks[4].address
    assert allocator.allocate(20 * MIB).address == blocks[1].address
    assert allocator.reserved_bytes == 122 * MIB


def test_a_rest_of_one_mib_stays_with_a_large_block_and_counts_as_allocated():
    allocator = CachingAllocator()
    assert allocator.allocate(11 * MIB).size == 12 * MIB
    assert allocator.allocated_bytes == 12 * MIB
    assert allocator.allocate(11 * MIB - 512).size == 11 * MIB - 512


def test_small_and_large_requests_share_no_segment():
    allocator = CachingAllocator()
    allocator.free(allocator.allocate(20 * MIB))
    allocator.allocate(512)
    assert allocator.reserved_bytes == 22 * MIB


def test_the_cache_is_given_back_only_when_the_cap_is_reached():
    allocator = CachingAllocator(60 * MIB)
    allocator.free(allocator.allocate(30 * MIB))
    allocator.allocate(20 * MIB + 512)
    assert (allocator.reserved_bytes, allocator.retries) == (30 * MIB, 0)
    allocator.free(allocator.allocate(20 * MIB))
    assert (allocator.reserved_bytes, allocator.retries) == (50 * MIB, 0)
    allocator.allocate(30 * MIB)
    assert (allocator.reserved_bytes, allocator.retries) == (60 * MIB, 1)
    assert allocator.peak_reserved_bytes == 60 * MIB


def test_a_refused_request_counts_a_retry_and_leaves_the_allocator_usable():
    allocator = CachingAllocator(40 * MIB)
    kept = allocator.allocate(30 * MIB)
    with pytest.raises(OutOfDeviceMemoryError):
        allocator.allocate(12 * MIB)
    assert (allocator.retries, allocator.allocated_bytes) == (1, 30 * MIB)
    allocator.free(kept)
    assert allocator.allocate(40 * MIB).size == 40 * MIB


def fragment(allocator: CachingAllocator) -> None:
    """Four blocks of 5 MiB share a segment; two that are apart are freed, then 8 MiB wanted."""
    blocks = [allocator.allocate(5 * MIB) for _ in range(4)]
    allocator.free(blocks[0])
    allocator.free(blocks[2])
    allocator.allocate(8 * MIB)


def test_a_sequence_can_fail_though_its_allocated_bytes_are_far_below_the_cap():
    allocator = CachingAllocator(38 * MIB)
    with pytest.raises(OutOfDeviceMemoryError):
        fragment(allocator)
    assert allocator.peak_allocated_bytes == 20 * MIB
    fragment(CachingAllocator(40 * MIB))


def test_an_expandable_pool_grows_by_pages_at_its_end():
    allocator = CachingAllocator(expandable_segments=True)
    first = allocator.allocate(15 * MIB)
    second = allocator.allocate(30 * MIB)
    assert second.address == first.address + 15 * MIB
    assert allocator.reserved_bytes == 60 * MIB
    allocator.allocate(512)
    assert allocator.reserved_bytes == 62 * MIB
    assert second.size == 30 * MIB


def test_an_expandable_block_is_split_to_the_granule():
    allocator = CachingAllocator(expandable_segments=True)
    assert allocator.allocate(20 * MIB - 512).size == 20 * MIB - 512
    assert allocator.allocate(MIB + 512).size == MIB + 512
    assert allocator.reserved_bytes == 40 * MIB


def test_a_gap_is_preferred_to_the_end_that_can_still_grow():
    allocator = CachingAllocator(expandable_segments=True)
    gap, _, end = (allocator.allocate(size * MIB) for size in (12, 2, 6))
    allocator.free(gap)
    allocator.free(end)
    assert allocator.allocate(5 * MIB).address == gap.address
    assert allocator.allocate(8 * MIB).address == end.address
    assert allocator.reserved_bytes == 40 * MIB


def test_pressure_unmaps_whole_free_pages_and_fills_them_again_later():
    allocator = CachingAllocator(100 * MIB, expandable_segments=True)
    first, middle, last = (allocator.allocate(size * MIB) for size in (50, 10, 40))
    allocator.free(first)
    with pytest.raises(OutOfDeviceMemoryError):
        allocator.allocate(70 * MIB)
    assert allocator.reserved_bytes == 60 * MIB
    check_invariants(allocator, [middle, last])
    allocator.free(allocator.allocate(5 * MIB))
    assert allocator.allocate(50 * MIB).address == first.address
    assert (allocator.reserved_bytes, allocator.retries) == (100 * MIB, 1)


def test_unmapping_leaves_the_parts_of_a_free_block_beside_the_page():
    allocator = CachingAllocator(80 * MIB, expandable_segments=True)
    head, middle, tail = (allocator.allocate(size * MIB) for size in (5, 60, 5))
    allocator.free(middle)
    allocator.release_cached()
    assert allocator.reserved_bytes == 40 * MIB
    assert [size // MIB for size, *_ in allocator.pools[1].free] == [5, 10, 15]
    check_invariants(allocator, [head, tail])
    assert allocator.allocate(55 * MIB).address == 5 * MIB + head.address
    assert allocator.reserved_bytes == 80 * MIB


def test_expandable_segments_serve_what_fragments_native_ones():
    with pytest.raises(OutOfDeviceMemoryError):
        fragment(CachingAllocator(39 * MIB))
    steps = [12 * MIB] * 6 + [-1, -1, -1, -1, -1, -1] + [18 * MIB] * 4
    native, expandable = CachingAllocator(), CachingAllocator(expandable_segments=True)
    replay(steps, native)
    replay(steps, expandable)
    assert native.reserved_bytes == 144 * MIB
    assert expandable.reserved_bytes == 80 * MIB
