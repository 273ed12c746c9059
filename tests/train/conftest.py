from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy computer are 25 times as slow as one.

    They also add in another order: an int8 network of one epoch then scores otherwise in the next process.
    """
    with pytest.MonkeyPatch.context() as environment, threadpool_limits(1):
        environment.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
