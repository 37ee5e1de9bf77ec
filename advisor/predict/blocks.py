"""The blocks of a simulated allocator: neighbours in a segment, and listed in their pool when free.

A block that is free and listed stays listed until `take`, `unlist` or a neighbour's
`absorb_neighbours` removes it; whoever changes its size or address unlists it first.
"""

from bisect import bisect_left, insort


class Block:
    """A range of addresses: handed out, free, or (expandable segments only) without memory.

    `before` and `after` are its neighbours in the same segment.
    """

    __slots__ = ("address", "after", "before", "is_free", "is_mapped", "pool", "size")

    def __init__(self, pool: "Pool", address: int, size: int, *, is_mapped: bool = True) -> None:
        self.pool = pool
        self.address = address
        self.size = size
        self.is_free = True
        self.is_mapped = is_mapped
        self.before: Block | None = None
        self.after: Block | None = None

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


class Pool:
    """The free blocks of one pool, by size and then address; those without memory by address.

    Args:
        page_bytes: The unit in which an expandable segment grows and shrinks.
        least_rest_bytes: The least rest of a block that is split off.
    """

    __slots__ = ("free", "least_rest_bytes", "page_bytes", "unmapped")

    def __init__(self, *, page_bytes: int, least_rest_bytes: int) -> None:
        self.page_bytes = page_bytes
        self.least_rest_bytes = least_rest_bytes
        self.free: list[tuple[int, int, Block]] = []
        self.unmapped: list[tuple[int, Block]] = []

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

        A block that ends where memory could be added counts as large as it could become, so that
        a block between others is taken first.
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
