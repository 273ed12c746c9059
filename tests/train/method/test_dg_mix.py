from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from edge_asd.signal.view import LogMel, log_mel
from tests.train.method.toy import batch, learn, task
from train.method.dg_mix import Settings, build, entangled, mixed, partners, spread

pytestmark = pytest.mark.train


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 99))
def test_partners_are_of_the_same_machine_and_nobody_else_s(machines: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    machine = torch.tensor(machines)
    partner = partners(machine)
    assert torch.equal(machine[partner], machine)
    assert sorted(partner.tolist()) == list(range(len(machines)))
    alone = torch.bincount(machine)[machine] == 1
    assert torch.equal(partner == torch.arange(len(machines)), alone)


def test_decibels_are_mixed_as_waveforms_are_on_average() -> None:
    """Against log-mels of mixed noise, averaged over an hour's worth of it."""
    rng, spec, share = np.random.default_rng(0), LogMel(), 0.3
    a, b = (gain * rng.standard_normal((200, 32_000)).astype(np.float32) for gain in (0.1, 0.02))
    power = [(10 ** (log_mel(spec, waves) / 10)).mean((0, 2)) for waves in (a, b, share * a + (1 - share) * b)]
    images = [torch.from_numpy(10 * np.log10(one))[None, :, None] for one in power]
    weight = torch.tensor(share).reshape(1, 1, 1)
    torch.testing.assert_close(mixed(images[0], images[1], weight), images[2], atol=0.2, rtol=0)


@given(st.integers(0, 99), st.integers(2, 30), st.integers(2, 10))
def test_variance_and_covariance_are_vicregs(seed: int, rows: int, width: int) -> None:
    """Bardes et al., eq. (1), (3) and (4), in NumPy."""
    z = np.random.default_rng(seed).standard_normal((rows, width))
    covariance = np.cov(z, rowvar=False)
    off = covariance - np.diag(np.diag(covariance))
    tensor = torch.from_numpy(z)
    assert float(entangled(tensor)) == pytest.approx((off**2).sum() / width)
    hinge = np.maximum(0, 1 - np.sqrt(np.diag(covariance) + 1e-4))
    assert float(spread(tensor)) == pytest.approx(hinge.mean(), abs=1e-12)


def test_a_linear_embedding_would_pay_nothing_for_its_geometry() -> None:
    """The constraint holds exactly where g∘f is linear and mixing is linear in its input."""
    z_a, z_b, share = torch.randn(6, 8), torch.randn(6, 8), torch.rand(6, 1)
    linear = torch.randn(8, 5)
    z_m = (share * z_a + (1 - share) * z_b) @ linear
    torch.testing.assert_close(z_m, share * (z_a @ linear) + (1 - share) * (z_b @ linear))


def test_the_total_is_the_weighted_sum_of_its_terms_and_falls() -> None:
    about = task(2, [5, 5])
    torch.manual_seed(0)
    network, shown = build(about, Settings(geometry=3.0, variance=2.0, covariance=0.5, width=32)), batch(8, about)
    taught = replace(shown, section=functional.one_hot(torch.arange(8) % 2, 2).float())
    total, parts = network.loss(taught, 0.5)
    terms = 3.0 * parts["geometry"] + 2.0 * parts["variance"] + 0.5 * parts["covariance"]
    torch.testing.assert_close(total, terms)
    losses = learn(network, taught, 5)
    assert losses[-1] < 0.9 * losses[0]
