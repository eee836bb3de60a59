import torch

from pipeline.extraction.repeatable import repeatable


def test_the_state_of_torch_is_put_back():
    torch.manual_seed(11)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with repeatable(5, torch.device("cpu")):
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
