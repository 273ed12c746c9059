from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from edge_asd.errors import ConfigError
from edge_asd.signal.view import LogMel
from tests.train.method.toy import batch, in_onnx_runtime, learn, lived, outputs, size, task
from train.method.adversarial import Adversarial, Cvae, Settings, build, shrunk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from train.method.task import Batch, Task

pytestmark = pytest.mark.train

BEFORE, AFTER = 0.0, 1.0
"""progress in which the CVAE learns alone, and in which it has an opponent"""


def heard(samples: int) -> Task:
    """Log-mels 160 samples apart, as the report has them."""
    return replace(task(samples=samples), front_ends={"": LogMel(hop=160)})


def network(about: Task | None = None, **settings: Any) -> Adversarial:  # noqa: ANN401 - fields of Settings
    torch.manual_seed(0)
    return build(about or task(), Settings(**settings))


def hard(count: int, about: Task, outliers: int = 0) -> Batch:
    """Segments of one machine and group each; outliers come last."""
    shown = batch(count, about, outliers=outliers)
    for rows in (shown.section, shown.group):
        rows.copy_(functional.one_hot(torch.arange(count) % rows.shape[1], rows.shape[1]).float())
        rows[count - outliers :] = 0.0
    return shown


def moved(module: nn.Module) -> bool:
    """Whether any of its weights has a gradient."""
    return any(weight.grad is not None and bool(weight.grad.any()) for weight in module.parameters())


def decoder(method: Adversarial) -> Iterable[nn.Module]:
    return method.cvae.widen, method.cvae.decoder


# The CVAE -------------------------------------------------------------------------------------------------------------


def test_the_encoder_is_as_large_as_the_reports() -> None:
    """methods.md §4.2 and §11."""
    assert size(Cvae(heard(40_800), latent=16).encoder) == 143_576


def test_256_frames_shrink_to_127_and_63_and_grow_back() -> None:
    """methods.md §11."""
    cvae, lengths = Cvae(heard(40_800), latent=16), []
    for layer in (*cvae.encoder, *cvae.decoder):
        if isinstance(layer, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
            layer.register_forward_hook(lambda _layer, _in, out: lengths.append(tuple(out.shape[1:])))
    mean, log_variance = cvae.encode(torch.zeros(1, 128, 256))
    assert mean.shape == log_variance.shape == (1, 16)
    assert cvae.decode(mean, torch.zeros(1, 6)).shape == (1, 128, 256)
    assert lengths == [(32, 256), (16, 127), (8, 63), (16, 127), (32, 256), (128, 256)]


@given(st.integers(7, 320))
def test_what_is_drawn_is_as_long_as_what_was_heard(frames: int) -> None:
    about = replace(task(samples=512 * (frames - 1) + 7), front_ends={"": LogMel(n_mels=8)})
    cvae = Cvae(about, latent=2)
    with torch.no_grad():
        mean, _ = cvae.encode(torch.zeros(1, 8, frames))
        assert cvae.decode(mean, torch.zeros(1, 6)).shape == (1, 8, frames)


# Two stages -----------------------------------------------------------------------------------------------------------


def test_at_first_the_cvae_learns_alone() -> None:
    method = network()
    loss, parts = method.loss(hard(6, task()), BEFORE)
    loss.backward()
    assert set(parts) == {"loss", "l_reconstruction", "l_kl"}
    assert moved(method.cvae.encoder)
    assert all(map(moved, decoder(method)))
    assert all(weight.grad is None for weight in method.embedder.parameters())


def test_the_pretraining_loss_is_reconstruction_and_divergence() -> None:
    method, shown = network(kl=0.3), hard(6, task(), outliers=2)
    torch.manual_seed(5)
    loss, _ = method.loss(shown, BEFORE)
    torch.manual_seed(5)
    x = (shown.views["log_mel"] + 20.0) / 20.0
    with torch.no_grad():
        mean, log_variance = method.cvae.encode(x)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        error = (method.cvae.decode(z, shown.group) - x).square().mean((1, 2))
        kl = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1)
    expected = (error + 0.3 * kl)[:4].mean()  # of no machine, of no group: not drawn
    torch.testing.assert_close(loss.detach(), expected)


@pytest.mark.parametrize("fakes", ["reconstructed", "sampled"])
def test_the_generators_step_gives_the_evaluator_no_gradient(fakes: str) -> None:
    method = network(fakes=fakes)
    statistics = {name: value.clone() for name, value in method.embedder.named_buffers()}
    _, parts = method.loss(hard(6, task(), outliers=2), AFTER)
    once = {name: value.clone() for name, value in method.embedder.named_buffers()}
    (parts["l_generator"] + parts["l_reconstruction"]).backward()
    assert all(weight.grad is None for weight in method.embedder.parameters())
    assert all(map(moved, decoder(method)))
    assert not moved(method.cvae.encoder)
    # and its batch norms count a batch once, that of its own step
    assert int(once["layers.1.num_batches_tracked"]) == int(statistics["layers.1.num_batches_tracked"]) + 1


@pytest.mark.parametrize("fakes", ["reconstructed", "sampled"])
def test_the_evaluators_step_gives_the_decoder_none(fakes: str) -> None:
    method = network(fakes=fakes)
    _, parts = method.loss(hard(6, task(), outliers=2), AFTER)
    parts["l_evaluator"].backward()
    assert moved(method.embedder)
    assert all(weight.grad is None for weight in method.cvae.parameters())


def test_the_generator_is_told_by_the_evaluator_to_pass_as_its_own_machine() -> None:
    """A step down its gradient raises the own logit of the fakes."""
    method: Any = lived(network())
    shown = hard(6, task())

    def passing() -> Tensor:
        torch.manual_seed(3)
        return method.loss(shown, AFTER)[1]["l_generator"]

    before = passing()
    before.backward()
    learners = [weight for weight in method.cvae.parameters() if weight.grad is not None]
    length = float(nn.utils.get_total_norm([weight.grad for weight in learners if weight.grad is not None]))
    torch.optim.SGD(learners, lr=0.1 / length).step()
    assert float(passing().detach()) < float(before.detach()) - 1e-4


def test_the_evaluator_refuses_fakes_and_outliers() -> None:
    """Its loss is that of real segments under their machines, and fakes and outliers under none."""
    method, shown = network().eval(), hard(6, task(), outliers=2)
    torch.manual_seed(3)
    _, parts = method.loss(shown, AFTER)
    torch.manual_seed(3)
    x = (shown.views["log_mel"] + 20.0) / 20.0
    fake = 20.0 * method.fakes(x, shown.group)[1] - 20.0
    with torch.no_grad():
        logit = method.embedder(torch.cat([shown.views["log_mel"], fake]))[1]
    target = torch.cat([shown.section, torch.zeros(6, 3)])
    cross = functional.binary_cross_entropy_with_logits(logit, target, reduction="none")
    yes, no = ((cross * marks).sum(0) / marks.sum(0).clamp(min=1) for marks in (target, 1.0 - target))
    torch.testing.assert_close(parts["l_evaluator"].detach(), (0.5 * (yes + no)).mean())


def test_an_evaluator_that_is_nearly_always_right_pauses() -> None:
    about = task()
    free, guarded = network(about, guard=1.0), network(about, guard=0.01)
    for method, learns in ((free, True), (guarded, False)):
        loss, parts = method.loss(hard(6, about), AFTER)
        loss.backward()
        assert parts["accuracy"] > 0.01
        assert moved(method.embedder) == learns
        assert learns or all(weight.grad is None for weight in method.embedder.parameters())
        assert all(map(moved, decoder(method)))


@pytest.mark.parametrize(
    ("real", "fake", "section", "expected"),
    [
        ([[1.0, -1.0], [-1.0, 1.0]], [[-1.0, -1.0], [-1.0, -1.0]], [[1.0, 0.0], [0.0, 1.0]], 1.0),
        ([[1.0, -1.0], [-1.0, 1.0]], [[1.0, -1.0], [-1.0, -1.0]], [[1.0, 0.0], [0.0, 1.0]], (1 + 0.5 + 1) / 3),
        ([[1.0, 1.0], [-1.0, 1.0]], [[-1.0, 9.0], [-1.0, -1.0]], [[1.0, 0.0], [0.0, 1.0]], (1 + 1 + 0.5) / 3),
        ([[1.0], [1.0]], [[-1.0], [-1.0]], [[1.0], [1.0]], 1.0),  # nobody else to be told apart from
        ([[1.0], [1.0]], [[-1.0], [9.0]], [[1.0], [0.0]], (1 + 1 + 0) / 3),  # an outlier taken for the machine
    ],
)
def test_accuracy_is_of_own_segments_fakes_and_others_alike(
    real: list[list[float]], fake: list[list[float]], section: list[list[float]], expected: float
) -> None:
    found = Adversarial.accuracy(*map(torch.tensor, (real, fake, section)))
    assert float(found) == pytest.approx(expected)


def test_both_stages_learn() -> None:
    about = task()
    lesson = hard(8, about)
    method: Any = network(about, pretraining=0.999)
    losses = learn(method, lesson, steps=60)
    assert losses[-1] < 0.8 * losses[0]
    rival: Any = network(about, pretraining=0.0, guard=1.0)
    _, before = rival.loss(lesson, AFTER)
    learn(rival, lesson, steps=30)
    _, after = rival.loss(lesson, AFTER)
    assert float(after["l_evaluator"].detach()) < float(before["l_evaluator"].detach())
    assert float(after["l_reconstruction"].detach()) < float(before["l_reconstruction"].detach())


def test_held_out_segments_have_a_loss_whatever_their_number() -> None:
    method = network().eval()
    with torch.no_grad():
        for count in (1, 5):
            loss, _ = method.loss(hard(count, task()), AFTER)
            assert loss.isfinite()


def test_a_batch_of_outliers_alone_has_a_loss() -> None:
    for progress in (BEFORE, AFTER):
        loss, _ = network().loss(hard(3, task(), outliers=3), progress)
        assert loss.isfinite()


# Fakes ----------------------------------------------------------------------------------------------------------------


def test_a_seed_draws_the_same_fakes_again_and_another_seed_others() -> None:
    method, groups = network(), torch.eye(6)[[0, 0, 5]]
    first, again, other = (method.generate(groups, seed) for seed in (1, 1, 2))
    assert first.shape == (3, 128, 63)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_fakes_are_in_decibels_and_of_the_group_that_was_asked_for() -> None:
    """Two groups that differ in level are learned, and drawn so."""
    about = task(sections=1, sizes=(10, 10))
    lesson, level = hard(16, about), torch.tensor([-60.0, -30.0])
    method = network(about, pretraining=0.999, kl=0.1)
    optimizer = torch.optim.Adam(method.parameters(), 3e-3)
    for _ in range(120):
        lesson.views["log_mel"].copy_(level[lesson.group.argmax(1)][:, None, None] + torch.randn(16, 128, 63))
        loss, _ = method.loss(lesson, BEFORE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fakes = method.generate(torch.eye(2).repeat(4, 1), seed=0)
    np.testing.assert_allclose(fakes.mean((1, 2)).view(4, 2), level.expand(4, 2), atol=7.0)


# On a device ----------------------------------------------------------------------------------------------------------


def test_a_device_runs_the_evaluator_alone_and_computes_the_same() -> None:
    embedder: Any = lived(network()).embedder
    log_mel = batch(1, task()).views["log_mel"]
    expected, given_out = outputs(embedder, log_mel), in_onnx_runtime(embedder, log_mel)
    assert list(given_out) == ["raw_embedding", "target_logit"]
    assert size(embedder) == 97_779
    for name, output in given_out.items():
        np.testing.assert_allclose(output, expected[name], rtol=1e-3, atol=1e-3 * float(expected[name].abs().max()))


def test_a_segment_that_is_too_short_to_encode_is_refused() -> None:
    assert shrunk(7)[-1] == 1
    build(task(samples=512 * 6), Settings())
    with pytest.raises(ConfigError, match=r"needs 7 frames, and a segment has 6: make windows\.segment longer"):
        build(task(samples=512 * 5), Settings())
