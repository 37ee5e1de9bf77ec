import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.device.catalogue import (
    LARGE_WORKSPACE_BYTES,
    WORKSPACE_BYTES,
    describe_stated_gpu,
    find_gpu,
    list_gpus,
)
from advisor.errors import UsageError

MIB = 2**20
NAMES = [name for gpu in list_gpus() for name in (gpu.name, *gpu.aliases)]


def test_the_catalogue_has_more_than_25_cards_and_no_name_twice():
    assert len(list_gpus()) >= 25
    plain = [name.casefold() for name in NAMES]
    assert len(plain) == len(set(plain))


def test_the_h200_has_what_its_driver_reports():
    gpu = find_gpu("H200")
    assert gpu.memory_bytes == 143_771 * MIB
    assert gpu.memory_source == "driver-reported"


@pytest.mark.parametrize("gpu", list_gpus(), ids=lambda gpu: gpu.name)
def test_figures_of_a_card_agree_with_each_other(gpu):
    assert 0 < gpu.usable_bytes <= gpu.memory_bytes
    assert gpu.memory_bytes - gpu.usable_bytes < 0.04 * gpu.memory_bytes
    assert gpu.peak_flops["fp32"] <= gpu.peak_flops.get("tf32", 1e18)
    assert gpu.peak_flops.get("bf16") in {None, gpu.peak_flops.get("fp16")}
    assert 1e11 < gpu.bandwidth_bytes_per_s < 1e13
    assert gpu.source


@pytest.mark.parametrize("gpu", list_gpus(), ids=lambda gpu: gpu.name)
def test_the_workspace_is_large_from_hopper_on(gpu):
    is_new = float(gpu.compute_capability) >= 9.0
    assert gpu.workspace_bytes == (LARGE_WORKSPACE_BYTES if is_new else WORKSPACE_BYTES)


@given(st.sampled_from(NAMES), st.sampled_from([" ", "-", "_", ""]), st.booleans())
def test_case_spaces_and_dashes_do_not_count(name, separator, is_upper):
    typed = separator.join(name.replace("-", " ").split())
    typed = typed.upper() if is_upper else typed.lower()
    assert name in {(gpu := find_gpu(typed)).name, *gpu.aliases}


def test_a_part_that_one_card_alone_has_is_enough():
    assert find_gpu("4090").name == "RTX 4090"
    assert find_gpu("6000 ada").name == "RTX 6000 Ada"


def test_a_whole_name_wins_over_the_parts_of_others():
    assert find_gpu("L4").name == "L4"
    assert find_gpu("a10").name == "A10"


def test_a_part_that_several_cards_have_names_them():
    with pytest.raises(UsageError, match=r"A100 80GB SXM, .* or A100 40GB PCIe"):
        find_gpu("a100")


def test_an_unknown_name_is_answered_with_near_ones_and_the_list():
    with pytest.raises(UsageError, match="no GPU 'rtx 4091'") as caught:
        find_gpu("rtx 4091")
    assert caught.value.next_step.startswith("Did you mean RTX 4090")
    assert "--list-gpus" in caught.value.next_step
    with pytest.raises(UsageError) as caught:
        find_gpu("???")
    assert "mean" not in caught.value.next_step


def test_a_stated_card_has_all_that_was_stated_and_no_peaks():
    gpu = describe_stated_gpu(24 * 2**30)
    assert gpu.name == "GPU of 24 GiB"
    assert gpu.usable_bytes == gpu.memory_bytes == 24 * 2**30
    assert gpu.peak_flops == {}
