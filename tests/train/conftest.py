from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Threads that wait for each other on a busy computer are 25 times as slow as one."""
    torch.set_num_threads(1)
