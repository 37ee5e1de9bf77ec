"""What the user's settings of torch's allocator mean."""

import pytest

from advisor.device.allocator_settings import has_expandable_segments


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
def test_expandable_segments_are_found_in_the_variable_that_torch_reads(
    environment, is_there, monkeypatch
):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert has_expandable_segments() == is_there
