"""What the search for the largest micro-batch says besides it."""

from msgspec.structs import replace

from advisor.memory.tell import brief_memory, describe_memory
from tests.unit.samples import conclude, make_memory, make_record


def test_sizes_that_the_model_does_not_run_are_told_with_what_it_said():
    memory = replace(make_memory(), refused=(7, 9), refusal="heads must divide the batch")
    told = "not run by the model, whatever the memory: 7, 9 (heads must divide the batch)"
    assert told in describe_memory(memory)
    assert "not run by the model" not in describe_memory(make_memory())


def test_a_size_that_flushes_the_allocators_cache_is_told_with_the_one_that_does_not():
    memory = replace(make_memory(), largest_without_retries=900)
    assert "900 without the allocator flushing its cache" in describe_memory(memory)
    memory = replace(memory, largest_without_retries=1024)
    assert "flushing" not in describe_memory(memory)


def test_in_brief_a_search_without_a_size_is_inconclusive():
    found = brief_memory(conclude(make_record(), memory=make_memory(None, "budget")))
    assert (found.text, found.state) == ("no micro-batch was seen to fit", "inconclusive")
