"""What the user's settings of torch's allocator mean."""

import pytest

from advisor.memory.allocator_settings import has_expandable_segments, lower_limit

MIB = 1 << 20


@pytest.mark.parametrize(
    ("environment", "is_there"),
    [
        ({}, False),
        ({"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, True),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:native,expandable_segments:True"}, True),
        (
            {
                "PYTORCH_ALLOC_CONF": "backend:native",
                "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
            },
            False,
        ),
    ],
)
def test_a_page_of_expandable_segments_is_kept_free(environment, is_there):
    assert has_expandable_segments(environment) == is_there
    assert lower_limit(1024 * MIB, environment) == (1004 if is_there else 1024) * MIB
