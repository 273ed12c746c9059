from __future__ import annotations

import pytest
import torch

from tests.train.method.toy import batch, task
from train.method import grhd, hmic

pytestmark = pytest.mark.train


def test_it_is_grhd_without_reversal_weight_for_weight() -> None:
    """[S1] Table II: row 3 has HMIC-AGC's figures."""
    about = task(2, [5, 9, 7])
    torch.manual_seed(0)
    network = hmic.build(about, hmic.Settings(beta=0.5, gamma=2.0))
    torch.manual_seed(0)
    row_3 = grhd.build(about, grhd.Settings(classifiers="both", beta=0.5, gamma=2.0))
    assert all(map(torch.equal, network.state_dict().values(), row_3.state_dict().values()))
    total, parts = network.loss(batch(4, about), 0.5)
    assert set(parts) == {"loss", "l_sec", "l_att", "accuracy"}
    torch.testing.assert_close(total, 0.5 * parts["l_sec"] + 2.0 * parts["l_att"])
