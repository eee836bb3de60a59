import pytest
import torch
import torch.utils.deterministic

from merc.compute.repeatable import repeatable


@pytest.mark.parametrize("threads", [1, 2])
def test_the_state_of_torch_is_put_back(threads):
    torch.manual_seed(11)
    state, before = torch.get_rng_state(), torch.get_num_threads()
    with repeatable(5, torch.device("cpu"), threads):
        assert torch.get_num_threads() == threads
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == before
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_it_is_one_thread_unless_said_otherwise():
    with repeatable(5, torch.device("cpu")):
        assert torch.get_num_threads() == 1
