"""torch's CUDA caching allocator, simulated: what a sequence of requests reserves on the device.

Assumed: one stream, the default settings (no largest split size, no collection threshold, no
rounding to powers of two), no graph capture and no private pools.

Source: the behaviour of c10/cuda/CUDACachingAllocator.cpp in torch 2.8 and later.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Final

MIB: Final = 1 << 20
GRANULE_BYTES: Final = 512  # every block is a multiple of it
SMALL_REQUEST_BYTES: Final = MIB  # the largest request of the small pool
SMALL_SEGMENT_BYTES: Final = 2 * MIB  # a segment, or a page, of the small pool
LARGE_SEGMENT_BYTES: Final = 20 * MIB  # what a request below 10 MiB reserves; a page of that pool
MEDIUM_REQUEST_BYTES: Final = 10 * MIB  # from here on a request gets a segment of its own
SEGMENT_GRANULE_BYTES: Final = 2 * MIB  # that segment is a multiple of it
SMALL_REST_BYTES: Final = GRANULE_BYTES  # the least rest that is split off where splits are cheap
LARGE_REST_BYTES: Final = MIB + GRANULE_BYTES  # the least in a native large segment: over 1 MiB
#: Of an expandable segment: whole pages of either kind, and more than any cap.
ADDRESS_SPACE_BYTES: Final = LARGE_SEGMENT_BYTES << 36


@dataclass(slots=True, eq=False)
class Block:
    """A range of addresses: handed out, free, or (expandable segments only) without memory.

    `before` and `after` are its neighbours in the same segment. Whoever changes the size or address
    of one that its pool lists unlists it first.
    """

    pool: "Pool"
    address: int
    size: int
    is_mapped: bool = True
    is_free: bool = True
    before: "Block | None" = None
    after: "Block | None" = None

    def split(self, size: int) -> "Block":
        """Return the rest: this block keeps its first `size` bytes."""
        rest = Block(self.pool, self.address + size, self.size - size, is_mapped=self.is_mapped)
        rest.before, rest.after, self.after = self, self.after, rest
        if rest.after is not None:
            rest.after.before = rest
        self.size = size
        return rest

    def absorb_neighbours(self) -> None:
        """Take in the free neighbours of the same kind; none of the three is listed afterwards."""
        before, after = self.before, self.after
        if before is not None and before.is_free and before.is_mapped == self.is_mapped:
            before.pool.unlist(before)
            self.address, self.size = before.address, self.size + before.size
            self.before = before.before
            if self.before is not None:
                self.before.after = self
        if after is not None and after.is_free and after.is_mapped == self.is_mapped:
            after.pool.unlist(after)
            self.size += after.size
            self.after = after.after
            if self.after is not None:
                self.after.before = self


@dataclass(slots=True, kw_only=True, eq=False)
class Pool:
    """The free blocks of one pool, by size and then address; those without memory by address.

    An expandable segment grows and shrinks in pages; a rest below the least one is not split off.
    """

    page_bytes: int
    least_rest_bytes: int
    free: list[tuple[int, int, Block]] = field(default_factory=list)
    unmapped: list[tuple[int, Block]] = field(default_factory=list)

    def enlist(self, block: Block) -> None:
        """Add a free block to its list."""
        if block.is_mapped:
            insort(self.free, (block.size, block.address, block))
        else:
            insort(self.unmapped, (block.address, block))

    def unlist(self, block: Block) -> None:
        """Remove a free block from its list."""
        if block.is_mapped:
            del self.free[bisect_left(self.free, (block.size, block.address))]
        else:
            del self.unmapped[bisect_left(self.unmapped, (block.address,))]

    def take(self, size: int) -> Block | None:
        """Return the best free block of at least `size` bytes, no longer listed; None without one.

        A block that ends where memory could be added counts as large as it could become.
        """
        free = self.free
        index = bisect_left(free, (size,))
        if index == len(free):
            return None
        while index + 1 < len(free) and _reach(free[index + 1][2]) < _reach(free[index][2]):
            index += 1
        return free.pop(index)[2]


def _reach(block: Block) -> int:
    """Return how large a free block could become in place."""
    after = block.after
    return block.size if after is None or after.is_mapped else block.size + after.size


class OutOfDeviceMemoryError(Exception):
    """The allocator cannot serve a request under its cap."""


class CachingAllocator:
    """The allocator of one device, under a cap or without one.

    A block that is handed out counts with the rest that was not worth splitting off. With
    `expandable_segments` each pool is one growing segment, whose mapped pages count for the cap.
    """

    def __init__(self, capacity_bytes: int | None = None, *, expandable_segments: bool = False):
        large_rest = SMALL_REST_BYTES if expandable_segments else LARGE_REST_BYTES
        self.pools = (  # for small requests and for large ones
            Pool(page_bytes=SMALL_SEGMENT_BYTES, least_rest_bytes=SMALL_REST_BYTES),
            Pool(page_bytes=LARGE_SEGMENT_BYTES, least_rest_bytes=large_rest),
        )
        self._capacity = ADDRESS_SPACE_BYTES if capacity_bytes is None else capacity_bytes
        self._expandable = expandable_segments
        self._next_address = 0
        self.allocated_bytes = self.reserved_bytes = self.retries = 0
        self.peak_allocated_bytes = self.peak_reserved_bytes = 0
        if expandable_segments:
            for base, pool in zip((0, ADDRESS_SPACE_BYTES), self.pools, strict=True):
                pool.enlist(Block(pool, base, ADDRESS_SPACE_BYTES, is_mapped=False))

    def allocate(self, size_bytes: int) -> Block:
        """Return the block that serves a request above 0 bytes, if need be without the cache."""
        size = round_up(size_bytes, GRANULE_BYTES)
        pool = self.pools[size > SMALL_REQUEST_BYTES]
        block = pool.take(size) or self._grow(pool, size)
        if block is None:
            self.retries += 1  # as torch's num_alloc_retries
            self.release_cached()
            block = self._grow(pool, size)
            if block is None:
                raise OutOfDeviceMemoryError(f"{size} bytes on top of {self.reserved_bytes}")
        if block.size - size >= pool.least_rest_bytes:
            pool.enlist(block.split(size))
        block.is_free = False
        self.allocated_bytes += block.size
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block

    def free(self, block: Block) -> None:
        """Take a block back into the cache, joined with its free neighbours."""
        self.allocated_bytes -= block.size
        block.is_free = True
        block.absorb_neighbours()
        block.pool.enlist(block)

    def release_cached(self) -> None:
        """Give back every segment without a live block; of expandable ones, every empty page."""
        for pool in self.pools:
            for _, _, block in tuple(pool.free):
                if self._expandable:
                    self._unmap(block)
                elif block.before is None and block.after is None:
                    pool.unlist(block)
                    self.reserved_bytes -= block.size

    def _grow(self, pool: Pool, size: int) -> Block | None:
        """Return a new block of at least `size` bytes, or None where the cap forbids it."""
        if self._expandable:
            return self._expand(pool, size)
        segment_bytes = choose_segment_bytes(size)
        if not self._reserve(segment_bytes):
            return None
        block = Block(pool, self._next_address, segment_bytes)
        self._next_address += segment_bytes
        return block

    def _expand(self, pool: Pool, size: int) -> Block | None:
        """Return a block of at least `size` bytes at the lowest address that has room for it."""
        holes = (hole for _, hole in pool.unmapped)
        starts = (each.before if each.before and each.before.is_free else each for each in holes)
        block = next(start for start in starts if _has_room(start, size))
        while not block.is_mapped or block.size < size:
            hole = block if not block.is_mapped else block.after
            missing = size if hole is block else size - block.size
            assert hole is not None
            if not self._map(hole, min(missing, hole.size)):
                return None
            block = hole
        pool.unlist(block)
        return block

    def _map(self, hole: Block, size: int) -> bool:
        """Put memory behind the first pages of a hole; False where the cap forbids it."""
        mapped_bytes = round_up(size, hole.pool.page_bytes)
        if not self._reserve(mapped_bytes):
            return False
        hole.pool.unlist(hole)
        if mapped_bytes < hole.size:
            hole.pool.enlist(hole.split(mapped_bytes))
        hole.is_mapped = True
        hole.absorb_neighbours()
        hole.pool.enlist(hole)
        return True

    def _unmap(self, block: Block) -> None:
        """Give back the pages that lie in a free block as a whole."""
        pool, end = block.pool, block.address + block.size
        first = round_up(block.address, pool.page_bytes)
        last = end - end % pool.page_bytes
        if first >= last:
            return
        pool.unlist(block)
        if last < end:
            pool.enlist(block.split(last - block.address))
        if first > block.address:
            rest = block.split(first - block.address)
            pool.enlist(block)
            block = rest
        block.is_mapped = False
        block.absorb_neighbours()
        pool.enlist(block)
        self.reserved_bytes -= last - first

    def _reserve(self, size_bytes: int) -> bool:
        """Count memory taken from the device; False where the cap forbids it."""
        if self.reserved_bytes + size_bytes > self._capacity:
            return False
        self.reserved_bytes += size_bytes
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        return True


def round_up(size_bytes: int, granule_bytes: int) -> int:
    """Return the least multiple of the granule that is not below the size."""
    return -(-size_bytes // granule_bytes) * granule_bytes


def choose_segment_bytes(size_bytes: int) -> int:
    """Return the size of the native segment that a rounded request makes the allocator reserve."""
    if size_bytes <= SMALL_REQUEST_BYTES:
        return SMALL_SEGMENT_BYTES
    if size_bytes < MEDIUM_REQUEST_BYTES:
        return LARGE_SEGMENT_BYTES
    return round_up(size_bytes, SEGMENT_GRANULE_BYTES)


def _has_room(start: Block | None, size: int) -> bool:
    """Return whether `size` bytes from a block on are free or without memory."""
    room, block = 0, start
    while block is not None and block.is_free and room < size:
        room, block = room + block.size, block.after
    return room >= size
