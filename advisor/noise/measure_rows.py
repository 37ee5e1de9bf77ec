"""Sums of gradients by group, as they are kept: whole rows, or sketches of them."""

import math
import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from advisor.device.cpu import available_memory_bytes
from advisor.noise.data import FreeMemory, GradientMoments
from advisor.noise.iterates import LEAST_GROUPS
from advisor.noise.measure_metric import (
    Trained,
    as_real,
    choose_dtype,
    find_metric,
    find_roots,
    trained_parameters,
)

#: Columns of the groups' matrix that enter a float64 product at a time: they stay in the cache; on
#: a GPU so many that a few kernels do much.
_CHUNK_ELEMENTS, _DEVICE_CHUNK_ELEMENTS = 1 << 13, 1 << 20
#: Share of the host's free memory that the groups' rows may take.
_HOST_FRACTION = 0.25
#: Of rows on the host for gradients on a GPU: more would be copied for seconds at each point.
_MOST_HOST_BYTES = 1 << 30
#: Numbers of a sketch: its error is sqrt(2/length) of a squared norm, 0.14 %.
SKETCH_LENGTH = 1 << 20
_HOST = torch.device("cpu")

#: Where rows are kept, or that they are sketched, beside the training.
Place = Literal["device", "host", "sketch"]


class Room(NamedTuple):
    """How many groups are kept, and where."""

    groups: int
    place: Place


def find_room(training: Trained, groups: int, memory: FreeMemory) -> Room:
    """Return how many of the groups there is room for, and where: as sketches last.

    On the CPU fewer rows are taken before that, as long as they carry an interval.
    """
    parameters = trained_parameters(training)
    item_bytes = choose_dtype(parameters).itemsize
    row_bytes = max(1, item_bytes * sum(parameter.numel() for parameter in parameters))
    # One more is the optimizer's metric, another what is made of them.
    if (groups + 2) * row_bytes <= memory.device_bytes:
        return Room(groups, "device")
    is_apart = training.device.type == "cuda"
    room_bytes = _HOST_FRACTION * min(available_memory_bytes(), memory.host_bytes or math.inf)
    on_host = min(groups, int(room_bytes / row_bytes))
    if is_apart and groups * row_bytes > _MOST_HOST_BYTES:
        on_host = 0
    if on_host >= min(groups, LEAST_GROUPS):
        return Room(on_host, "host")
    sketch_bytes = 2 * groups * SKETCH_LENGTH * item_bytes
    is_smaller = sketch_bytes < groups * row_bytes
    fits = is_apart or (training.device.type == "cpu" and sketch_bytes <= room_bytes)
    return Room(groups, "sketch") if is_smaller and fits else Room(on_host, "host")


class _Rows:
    """Sums of the gradients of J groups, allocated beforehand: one by one they split the heap."""

    #: Metric × group × element: plain, and where they are kept apart in the optimizer's own metric.
    _store: Tensor

    def find_finite(self, groups: Sequence[int]) -> list[int]:
        """Return those of the groups whose sum is finite; no more is added after it."""
        # A norm in float64 is finite where all it sums is, and costs one pass.
        norms = torch.linalg.vector_norm(self._store[0], dim=1, dtype=torch.float64)
        return [group for group in groups if norms[group].isfinite()]

    def compute_moments(
        self, groups: Sequence[int], factor: float
    ) -> tuple[GradientMoments, GradientMoments | None]:
        """Return the moments of these groups, times a factor, plain and in the own metric."""
        store, root = self._store, self._find_root()
        rows = [sums if len(groups) == len(sums) else sums[list(groups)] for sums in store]
        plain, own = _compute_moments(rows[0], factor, None), None
        if root is not None or len(rows) > 1:
            own = _compute_moments(rows[-1], factor, root)
        return plain, own

    def _find_root(self) -> Tensor | None:
        return None


class WholeRows(_Rows):
    """The sums as they are, on the host or the device.

    Of a GPU's sums on the host one alone is on the device, until the next group begins.
    """

    def __init__(self, training: Trained, groups: int, *, is_on_device: bool) -> None:
        self._training = training
        self._parameters = trained_parameters(training)
        self._shapes = [as_real(parameter).shape for parameter in self._parameters]
        self._sizes = [shape.numel() for shape in self._shapes]
        place = training.device if is_on_device else _HOST
        dtype = choose_dtype(self._parameters)
        self._store = torch.zeros(1, groups, sum(self._sizes), dtype=dtype, device=place)
        self._is_apart = training.device.type != place.type
        self._group: int | None = None

    def begin(self, group: int) -> None:
        """Have what comes belong to a group."""
        self._save()
        self._group, self._row = group, self._store[0, group]
        if self._is_apart:
            self._row = torch.zeros_like(self._row, device=self._training.device)
        parts = torch.split(self._row, self._sizes)
        pairs = zip(parts, self._shapes, strict=True)
        self._running = [part.view(shape) for part, shape in pairs]

    def add(self, gradients: Sequence[Tensor | None], alpha: float) -> None:
        """Add the gradient of each parameter, times alpha; None is zero."""
        pairs = zip(self._running, gradients, strict=True)
        known = [(total, as_real(each)) for total, each in pairs if each is not None]
        totals, summands = [total for total, _ in known], [summand for _, summand in known]
        torch._foreach_add_(totals, summands, alpha=alpha)

    def find_finite(self, groups: Sequence[int]) -> list[int]:
        """Return the same, of all groups that were begun."""
        self._save()
        return super().find_finite(groups)

    def _find_root(self) -> Tensor | None:
        return find_metric(self._parameters, self._training.optimizer, self._store.device)

    def _save(self) -> None:
        if self._is_apart and self._group is not None:
            self._store[0, self._group].copy_(self._row)


class SketchedRows(_Rows):
    """The rows folded into a fixed length, one sketch plain and one in the optimizer's metric.

    Each stretch of a gradient gets random signs, is turned by a random offset and added, the same
    for all groups: squared norms and products are right on average (docs/method.md, section 4).

    Source: Charikar, Chen and Farach-Colton 2002, Finding frequent items in data streams.
    """

    def __init__(self, training: Trained, groups: int, *, length: int = SKETCH_LENGTH) -> None:
        parameters = trained_parameters(training)
        self._roots = find_roots(parameters, training.optimizer)
        self._device, self._length = training.device, length
        count, dtype = 1 if self._roots is None else 2, choose_dtype(parameters)
        self._store = torch.zeros(count, groups, length, dtype=dtype, device=self._device)
        self._signs = torch.Generator(self._device)

    def begin(self, group: int) -> None:
        """Have what comes belong to a group."""
        self._group = group

    def add(self, gradients: Sequence[Tensor | None], alpha: float) -> None:
        """Add the gradient of each parameter, times alpha; None is zero."""
        rows = self._store[:, self._group]
        for place, gradient in enumerate(gradients):
            if gradient is None:
                continue
            root = None if self._roots is None else self._roots[place]
            flat, offsets = as_real(gradient).reshape(-1), random.Random(place)  # noqa: S311
            self._signs.manual_seed(place)
            for start in range(0, flat.numel(), self._length):
                part = slice(start, start + self._length)
                values = alpha * flat[part].to(self._store.dtype)
                bits = torch.randint(
                    2, values.shape, generator=self._signs, dtype=torch.int8, device=self._device
                )
                values = torch.where(bits.bool(), values, -values)
                offset = offsets.randrange(self._length)
                _add_turned(rows[0], values, offset)
                if root is not None:
                    _add_turned(rows[1], values * root(part, self._device), offset)


def make_rows(training: Trained, groups: int, place: Place) -> WholeRows | SketchedRows:
    """Return rows of zeros."""
    if place == "sketch":
        return SketchedRows(training, groups)
    return WholeRows(training, groups, is_on_device=place == "device")


def _add_turned(row: Tensor, values: Tensor, offset: int) -> None:
    """Add values to a row from an offset on, and go on at its front where it ends."""
    head = min(len(values), len(row) - offset)
    row[offset : offset + head] += values[:head]
    row[: len(values) - head] += values[head:]


def _compute_moments(sums: Tensor, factor: float, root: Tensor | None) -> GradientMoments:
    """Return the moments of the rows of `sums`, times `factor`, in the metric root², in float64."""
    norms = torch.zeros(len(sums), dtype=torch.float64, device=sums.device)
    dots, total_sqnorm = torch.zeros_like(norms), norms.new_zeros(())
    length = _CHUNK_ELEMENTS if sums.device.type == "cpu" else _DEVICE_CHUNK_ELEMENTS
    for start in range(0, sums.shape[1], length):
        part = slice(start, start + length)
        chunk = sums[:, part].double()
        if root is not None:
            chunk = chunk * root[part]
        total = chunk.sum(dim=0)
        norms += chunk.square().sum(dim=1)
        dots += chunk @ total
        total_sqnorm += total @ total
    return GradientMoments(
        group_sqnorms=tuple((factor * norms).tolist()),
        group_dots=tuple((factor * dots).tolist()),
        total_sqnorm=factor * float(total_sqnorm),
    )
