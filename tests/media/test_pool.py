import os
import signal

import pytest

from pipeline.errors import PipelineError
from pipeline.media import pool


def test_one_worker_computes_in_this_process():
    assert list(pool.in_order(os.path.basename, ["a/b", "c/d"], 1)) == ["b", "d"]


def test_workers_give_results_in_order_and_a_dead_one_is_an_error_that_names_its_task():
    assert list(pool.in_order(abs, range(-50, 0), 2)) == list(range(50, 0, -1))
    with pytest.raises(PipelineError, match="died"):
        list(pool.in_order(os._exit, [9, 9, 9], 2))


def test_an_error_in_a_worker_is_raised_here_and_ends_the_others():
    with pytest.raises(FileNotFoundError, match="no-such-file"):
        list(pool.in_order(os.stat, ["/", "no-such-file", *["/"] * 50], 2))


def test_terminate_is_taken_as_an_interruption_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), pool.stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
