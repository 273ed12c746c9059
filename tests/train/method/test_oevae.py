from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from edge_asd.errors import ConfigError
from edge_asd.score.backbone import Backbone
from edge_asd.score.head import fit_head
from edge_asd.score.neighbour import Neighbours
from edge_asd.score.part import Evidence, PartSpec
from edge_asd.score.part import Normal as NormalClip
from edge_asd.signal.statistic import Statistics
from edge_asd.signal.view import LogMel, mel
from tests.train.method.toy import learn, lived, macs, outputs, size
from train.method.backend import backend
from train.method.oevae import Block, Oevae, Settings, build, dampened, divergence, even, image, resnet18
from train.method.task import Batch, Task
from train.pack.graph import quantised, to_onnx
from train.teach.recipe import load_recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

pytestmark = pytest.mark.train

WHOLE = LogMel(n_mels=224, f_min=50.0, f_max=7800.0, n_fft=1024, hop=256)
SMALL = LogMel(n_mels=32, f_min=50.0, f_max=7800.0, n_fft=1024, hop=512)
RECIPES = ["oevae", "oevae-paper", "oevae-literal-paper"]


def about(sections: int = 2, *, outliers: bool = False, spec: LogMel = SMALL, samples: int = 16_000) -> Task:
    names = tuple(f"toy/machine/{number:02d}" for number in range(sections))
    return Task(
        samples,
        {"": spec, "image": spec},
        names,
        tuple(f"{name} a" for name in names),
        (5,) * sections,
        outliers=outliers,
    )


def heard(count: int, task: Task, seed: int = 0) -> NDArray[np.float32]:
    """Noise (B, S) of various loudness and colour."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.01, 0.2, (count, 1)) * rng.standard_normal((count, task.samples))
    return np.asarray(waves + np.roll(waves, 1, axis=1) * rng.uniform(-0.9, 0.9, (count, 1)), np.float32)


def lesson(count: int, task: Task, outliers: int = 0, seed: int = 0) -> Batch:
    """The last ones are of no machine."""
    waves = heard(count, task, seed)
    views = {"mel.image": torch.from_numpy(mel(task.front_ends["image"], waves)), "waveform": torch.from_numpy(waves)}
    section = torch.eye(len(task.sections))[torch.arange(count) % len(task.sections)]
    section[count - outliers :] = 0.0
    condition = torch.from_numpy(np.random.default_rng(seed).choice([-5.0, 0.0, 5.0], count)).float()
    return Batch(views, section, section, condition * section.sum(1), torch.zeros(count, 0), torch.zeros(count, 0))


def oevae(task: Task | None = None, **settings: Any) -> Oevae:  # noqa: ANN401 - whatever a setting may be
    torch.manual_seed(0)
    return build(task or about(), Settings(**{"width": 16, **settings}))


def first(shown: Batch, count: int) -> Batch:
    views = {name: view[:count] for name, view in shown.views.items()}
    return replace(shown, views=views, section=shown.section[:count], condition=shown.condition[:count])


def terms(network: Oevae, shown: Batch) -> dict[str, float]:
    """What the loss is made of."""
    return {name: float(part.detach()) for name, part in network.loss(shown, 0.5)[1].items()}


# The network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "parameters", "millions"), [(64, 11_170_240, 991.0), (32, 2_795_744, 253.3), (16, 700_528, 66.1)]
)
def test_a_feature_extractor_is_as_large_and_dear_as_a_resnet18(width: int, parameters: int, millions: float) -> None:
    """methods.md §2.2; 224 bands and 126 frames of 2 s."""
    trunk = resnet18(width)
    assert size(trunk) == parameters
    assert macs(trunk.eval(), torch.zeros(1, 1, 224, 126)) == pytest.approx(millions * 1e6, rel=1e-3)


def test_the_vae_is_as_large_as_read_and_the_embedding_eight_widths() -> None:
    """methods.md §2.2 and §11."""
    network = oevae(width=64)
    inner = network.embedder
    assert size(inner.encoder, inner.mean, network.log_variance, network.decoder) == 312_448
    for width in (16, 32):
        network = oevae(about(3), width=width)
        e, latent, alpha, logit = network.embedder.eval()(*lesson(2, about(3)).views.values())
        assert (e.shape, latent.shape, alpha.shape, logit.shape) == ((2, 8 * width), (2, 56), (2, 1), (2, 3))


def test_an_edge_segment_is_an_image_of_224_bands_and_126_frames() -> None:
    for name in RECIPES:
        task = load_recipe(name).task()
        assert task.shape("mel.image") == (224, 126)
        assert resnet18(16).eval()(torch.zeros(1, 1, *task.shape("mel.image"))).shape == (1, 128, 7, 4)


def convolved(x: NDArray[np.float64], block: Any, stride: int) -> NDArray[np.float64]:  # noqa: ANN401 - modules, as arrays
    """A convolution and its batch norm by hand: (inputs, H, V) -> (outputs, H', V')."""
    layer, norm = block
    weight = layer.weight.detach().numpy()
    around = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (around, around), (around, around)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    y = np.einsum("chvij,ocij->ohv", patches, weight)
    mean, variance, scale, shift = (
        value.detach().numpy()[:, None, None] for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return np.asarray((y - mean) / np.sqrt(variance + 1e-5) * scale + shift)


@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (4, 2), (8, 1)])
def test_a_block_adds_two_convolutions_to_what_goes_past_them(channels: int, stride: int) -> None:
    block: Any = lived(Block(4, channels, stride).double())
    x = np.random.default_rng(0).standard_normal((4, 9, 12))
    inner = convolved(np.maximum(convolved(x, block.layers[0], stride), 0), block.layers[2], 1)
    past = x if (channels, stride) == (4, 1) else convolved(x, block.past, stride)
    with torch.no_grad():
        np.testing.assert_allclose(block(torch.from_numpy(x)[None])[0], np.maximum(inner + past, 0), atol=1e-9)


# What it sees ---------------------------------------------------------------------------------------------------------


def test_the_image_is_torchaudios_mel_spectrogram_of_a_standardised_waveform() -> None:
    """Magnitudes, HTK's scale; a constant offset is standardised away too, and no band hears it."""
    waves = torch.from_numpy(heard(3, about(samples=32_000))) + 0.25
    standard = (waves - waves.mean(1, keepdim=True)) / waves.std(1, correction=0, keepdim=True)
    listen = torchaudio.transforms.MelSpectrogram(
        16_000, 1024, hop_length=256, f_min=50.0, f_max=7800.0, n_mels=224, power=1.0
    )
    seen = torch.from_numpy(mel(WHOLE, waves.numpy()))
    torch.testing.assert_close(image(seen, waves, "linear"), listen(standard), rtol=1e-3, atol=1e-2)
    expected = (listen(standard) + 1e-5).log10()
    torch.testing.assert_close(image(seen, waves, "log"), expected, rtol=0, atol=0.01)


@given(st.floats(0.01, 100.0), st.sampled_from(["log", "linear"]))
def test_loudness_is_not_seen(gain: float, compression: str) -> None:
    shown = lesson(2, about()).views
    louder = image(gain * shown["mel.image"], gain * shown["waveform"], compression)
    torch.testing.assert_close(louder, image(shown["mel.image"], shown["waveform"], compression), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("compression", ["log", "linear"])
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_silence_gives_numbers(compression: str, level: float) -> None:
    waves = np.full((2, 16_000), level, np.float32)
    network = oevae(compression=compression).eval()
    for output in outputs(network.embedder, torch.from_numpy(mel(SMALL, waves)), torch.from_numpy(waves)).values():
        assert output.isfinite().all()


# Eq. (2) --------------------------------------------------------------------------------------------------------------


def machine_loss(logit: Tensor, target: Tensor) -> Tensor:
    return even(functional.softplus(-logit), functional.softplus(logit), target)


def test_in_batches_of_one_to_one_the_machine_loss_is_torchs_cross_entropy() -> None:
    logit, target = 3.0 * torch.randn(8, 1), torch.tensor([1.0, 0.0] * 4)[:, None]
    expected = functional.binary_cross_entropy_with_logits(logit, target)
    torch.testing.assert_close(machine_loss(logit, target), expected)
    by_hand = -(target * torch.sigmoid(logit).log() + (1 - target) * (1 - torch.sigmoid(logit)).log()).mean()
    torch.testing.assert_close(machine_loss(logit, target), by_hand)


def test_in_others_each_machine_weighs_as_much_as_all_that_it_is_not() -> None:
    """One clip of the first machine, three of the second, four of none."""
    logit, target = torch.randn(8, 2), torch.zeros(8, 2)
    target[0, 0] = target[1:4, 1] = 1.0
    weight = target / target.sum(0) + (1 - target) / (1 - target).sum(0)
    expected = functional.binary_cross_entropy_with_logits(logit, target, weight, reduction="sum") / 4
    torch.testing.assert_close(machine_loss(logit, target), expected)


@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 4))
def test_whatever_the_shares_they_are_a_mean(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    target = torch.from_numpy(rng.choice([0.0, 0.0, 0.3, 1.0], (rows, columns)))
    own, others = (torch.from_numpy(rng.standard_normal((rows, columns))) for _ in range(2))
    torch.testing.assert_close(even(own * 0 + 0.7, own * 0 + 0.7, target), torch.tensor(0.7, dtype=torch.float64))
    everything = torch.cat([own, others])
    assert everything.min() <= even(own, others, target) <= everything.max()


# Eq. (3), (4) ---------------------------------------------------------------------------------------------------------


def test_the_divergence_is_torchs() -> None:
    mean, log_variance, prior = torch.randn(3, 5, 64).double().unbind()
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(prior, 1.0)).sum(1)
    torch.testing.assert_close(divergence(mean, log_variance, prior), expected)


def test_the_divergence_of_one_channel_by_hand() -> None:
    """½ (4 + 9 − 1 − ln 4)."""
    given_ = divergence(torch.tensor([[2.0]]), torch.tensor([[np.log(4.0)]]), torch.tensor([[-1.0]]))
    assert float(given_) == pytest.approx(0.5 * (4 + 9 - 1 - np.log(4.0)))


@given(st.floats(-50.0, 50.0))
def test_a_latent_that_is_its_prior_costs_nothing(kv: float) -> None:
    """methods.md §11: z_d at k·v with σ = 1, z_c standard normal."""
    prior = torch.zeros(2, 64)
    prior[:, :8] = kv
    torch.testing.assert_close(divergence(prior, torch.zeros(2, 64), prior), torch.zeros(2))


def pinned(network: Oevae, mean: Tensor) -> Oevae:
    """A VAE that says N(mean, 1) of everything."""
    with torch.no_grad():
        for layer in (network.embedder.mean, network.log_variance):
            layer.weight.zero_()
            layer.bias.zero_()
        network.embedder.mean.bias.copy_(mean)
    return network.eval()


def test_eight_channels_follow_the_condition_and_the_others_nothing() -> None:
    mean = torch.zeros(64)
    mean[:8] = 5.0
    network, shown = pinned(oevae(), mean), lesson(4, about())
    for condition, expected in ((5.0, 0.0), (0.0, 0.5 * 8 * 25.0), (-5.0, 0.5 * 8 * 100.0)):
        driven = replace(shown, condition=torch.full((4,), condition))
        assert terms(network, driven)["l_kl"] == pytest.approx(expected, abs=1e-4)
    mean[8:] = 1.0
    driven = replace(shown, condition=torch.full((4,), 5.0))
    assert terms(pinned(network, mean), driven)["l_kl"] == pytest.approx(0.5 * 56)


def test_a_plain_vae_knows_no_condition() -> None:
    network, shown = pinned(oevae(split=False), torch.full((64,), 2.0)), lesson(4, about())
    for condition in (0.0, 25.0):
        driven = replace(shown, condition=torch.full((4,), condition))
        assert terms(network, driven)["l_kl"] == pytest.approx(0.5 * 64 * 4)


@pytest.mark.parametrize(("split", "channels"), [(True, 56), (False, 64)])
def test_alpha_is_minus_the_log_likelihood_of_the_latent_but_for_a_constant(split: bool, channels: int) -> None:  # noqa: FBT001 - a case
    network, shown = oevae(split=split).eval(), lesson(4, about())
    given_ = outputs(network.embedder, *shown.views.values())
    mean = network.embedder.mean(network.embedder.encoder(given_["raw_embedding"]))[:, -channels:]
    torch.testing.assert_close(given_["latent"], mean)
    alpha = -Normal(0.0, 1.0).log_prob(mean).sum(1) - 0.5 * channels * np.log(2 * np.pi)
    torch.testing.assert_close(given_["latent_distance"][:, 0], alpha, rtol=1e-4, atol=1e-4)


def test_the_reconstruction_is_of_the_embedding_and_summed_over_it() -> None:
    network, shown = oevae().eval(), lesson(4, about())
    e = outputs(network.embedder, *shown.views.values())["raw_embedding"]
    missed = e - network.decoder(network.embedder.mean(network.embedder.encoder(e)))
    assert terms(network, shown)["l_rec"] == pytest.approx(float(missed.square().sum().detach()) / 4)


def test_an_embedding_far_from_all_that_was_learned_has_a_finite_loss() -> None:
    network = oevae()
    losses = network.vae(torch.full((2, 128), 1e6), torch.zeros(2))
    assert float(network.log_variance(network.embedder.encoder(torch.full((1, 128), 1e6))).detach().max()) > 100.0
    assert all(loss.isfinite() for loss in losses)


def test_the_latent_is_drawn_in_training_alone() -> None:
    network, shown = oevae(), lesson(4, about())
    assert terms(network, shown)["l_rec"] != terms(network, shown)["l_rec"]
    network.eval()
    assert terms(network, shown) == terms(network, shown)


def test_outliers_are_nothing_to_the_vae() -> None:
    task = about(outliers=True)
    network: Any = lived(oevae(task))
    mixed = lesson(7, task, outliers=3)
    alone, together = terms(network, first(mixed, 4)), terms(network, mixed)
    for name in ("l_kl", "l_rec"):
        assert together[name] == pytest.approx(alone[name], rel=1e-5)
    assert together["l_machine"] != pytest.approx(alone["l_machine"], rel=1e-3)


def test_a_segment_mixed_with_an_outlier_is_one() -> None:
    network, shown = oevae().eval(), lesson(4, about())
    half = replace(shown, section=shown.section * torch.tensor([1.0, 1.0, 0.5, 0.0])[:, None])
    assert terms(network, half)["l_kl"] == pytest.approx(terms(network, first(shown, 2))["l_kl"], rel=1e-5)


def test_a_batch_of_outliers_alone_teaches_the_machine_head_and_nothing_else() -> None:
    task = about(outliers=True)
    network, shown = oevae(task), lesson(4, task, outliers=4)
    loss, parts = network.loss(shown, 0.0)
    loss.backward()
    assert not parts["l_kl"].any()
    assert not parts["l_rec"].any()
    assert all(not weight.grad.any() for weight in network.decoder.parameters() if weight.grad is not None)
    assert network.embedder.machine.weight.grad is not None
    assert network.embedder.machine.weight.grad.any()


# Eq. (1) --------------------------------------------------------------------------------------------------------------


def taken(module: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in module.parameters()]


def gradients(**settings: Any) -> tuple[list[Tensor], list[Tensor]]:  # noqa: ANN401 - whatever a setting may be
    """Of the backbone and of the VAE, by the VAE's loss alone."""
    network, shown = oevae(exposure=False, **settings), lesson(4, about())
    torch.manual_seed(1)
    network.loss(shown, 0.0)[0].backward()
    inner = network.embedder
    vae = nn.ModuleList([inner.encoder, inner.mean, network.log_variance, network.decoder])
    return taken(inner.trunk), taken(vae)


@pytest.mark.parametrize("share", [0.0, 2.0**-10, 0.25])
def test_the_backbone_takes_just_a_share_of_the_vaes_gradient_and_the_vae_all(share: float) -> None:
    """Powers of two, which round nothing."""
    whole, some = gradients(vae_gradient=1.0), gradients(vae_gradient=share)
    assert all(weight.any() for weight in whole[0])
    for full, less in zip(whole[0], some[0], strict=True):
        torch.testing.assert_close(less, share * full, rtol=1e-6, atol=1e-30)
    for full, same in zip(whole[1], some[1], strict=True):
        assert torch.equal(full, same)


def test_literally_the_vae_takes_the_same_share() -> None:
    whole, some = gradients(vae_gradient=1.0), gradients(vae_gradient=2.0**-10, literal=True)
    for full, less in zip([*whole[0], *whole[1]], [*some[0], *some[1]], strict=True):
        torch.testing.assert_close(less, 2.0**-10 * full, rtol=1e-6, atol=1e-30)


def test_what_is_dampened_is_the_gradient_alone() -> None:
    x = torch.randn(100, requires_grad=True)
    y = dampened(x, 1e-7)
    (3.0 * y).sum().backward()
    assert torch.equal(y, x)
    torch.testing.assert_close(x.grad, torch.full((100,), 3e-7))


@pytest.mark.parametrize(("settings", "share"), [({}, 1.0), ({"literal": True, "vae_gradient": 0.5}, 0.5)])
def test_the_total_is_the_sum_of_its_parts(settings: dict[str, Any], share: float) -> None:
    network, shown = oevae(**settings).eval(), lesson(6, about())
    total, parts = network.loss(shown, 0.5)
    torch.testing.assert_close(total, parts["l_machine"] + share * (parts["l_kl"] + parts["l_rec"]))
    logit = outputs(network.embedder, *shown.views.values())["target_logit"]
    torch.testing.assert_close(parts["l_machine"], machine_loss(logit, shown.section))
    right = ((logit > 0) == (shown.section > 0)).float().mean()  # three and three, as many as others
    torch.testing.assert_close(parts["accuracy"], right)


def test_without_exposure_no_machine_is_told_from_another() -> None:
    network, shown = oevae(about(1), exposure=False), lesson(4, about(1))
    loss, parts = network.loss(shown, 0.0)
    loss.backward()
    assert set(parts) == {"loss", "l_kl", "l_rec"}
    assert network.embedder.machine.weight.grad is None


# Learning -------------------------------------------------------------------------------------------------------------


def test_it_learns_two_machines_from_outliers_and_their_vae() -> None:
    task = about(outliers=True)
    network, shown = oevae(task), lesson(12, task, outliers=4)
    shown.views["mel.image"][:8:2, 8:12] *= 30.0  # both machines hum
    shown.views["mel.image"][1:8:2, 20:24] *= 30.0
    before = terms(network, shown)
    losses = learn(network, shown, steps=25, rate=3e-3)
    after = terms(network, shown)
    assert losses[-1] < 0.8 * losses[0]
    assert after["l_machine"] < 0.1 * before["l_machine"]
    assert after["l_kl"] + after["l_rec"] < 0.8 * (before["l_kl"] + before["l_rec"])
    assert after["accuracy"] == 1.0


def test_one_machine_and_nothing_else_is_refused_and_told_what_to_add() -> None:
    said = (
        r"one, toy/machine/00: add other machines to --data \(choose with --machine\), or background .* --outliers DIR"
    )
    with pytest.raises(ConfigError, match=said):
        build(about(1), Settings())
    build(about(1, outliers=True), Settings(width=16))


# On a device ----------------------------------------------------------------------------------------------------------


def as_a_device_does(graph: bytes, waves: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    backbone = Backbone(graph, {"": SMALL, "image": SMALL})
    each = [backbone(wave) for wave in waves]
    return {name: np.stack([one[name] for one in each]) for name in each[0]}


def test_a_device_computes_the_same_and_int8_nearly() -> None:
    """methods.md §8: cosine of at least 0.98."""
    task = about()
    network: Any = lived(oevae(task))
    waves = heard(8, task, seed=3)
    views = {"mel.image": mel(SMALL, waves), "waveform": waves}
    expected = outputs(network.embedder, *map(torch.from_numpy, views.values()))
    graph = to_onnx(network.embedder, task)

    full = as_a_device_does(graph, waves)
    assert list(full) == ["raw_embedding", "latent", "latent_distance", "target_logit"]
    for name, output in full.items():
        np.testing.assert_allclose(output, expected[name], rtol=1e-3, atol=1e-3 * float(expected[name].abs().max()))

    rows = [{name: view[number : number + 1] for name, view in views.items()} for number in range(8)]
    small = as_a_device_does(quantised(graph, rows), waves)
    e = torch.from_numpy(small["raw_embedding"])
    assert functional.cosine_similarity(e, expected["raw_embedding"]).min() > 0.98
    assert not torch.equal(e, torch.from_numpy(full["raw_embedding"]))


# Its recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_alpha_and_beta_weigh_half_each_and_all_else_is_shown(name: str) -> None:
    """methods.md §2.6: ω = 0.5."""
    recipe = load_recipe(name)
    parts = {part.name: (part.feature, part.backend) for part in recipe.parts}
    assert parts["alpha"] == ("latent_distance", "value")
    assert parts["beta"] == ("raw_embedding", "knn+smote" if recipe.preset == "edge" else "knn+smote+memmixup")
    assert parts["target"] == ("target_logit", "sigmoid")
    weights = recipe.fusion.weights
    assert {name: weight for name, weight in weights.items() if weight} == {"alpha": 0.5, "beta": 0.5}
    assert set(weights) == set(parts)


def test_presets_differ_in_what_the_report_leaves_open() -> None:
    edge, paper, literal = (load_recipe(name) for name in RECIPES)
    assert [recipe.name for recipe in (edge, paper, literal)] == RECIPES
    assert edge.training is not None
    assert paper.training is not None
    assert literal.training is not None
    assert literal.settings == paper.settings | {"literal": True}
    assert literal.training == paper.training.model_copy(update={"epsilon": 1e-10})
    assert (paper.training.outliers, paper.training.condition) == (0.5, "random")
    assert (edge.settings["width"], edge.settings["compression"]) == (32, "log")
    for training in (edge.training, paper.training):
        assert (training.mixup, training.mixup_alpha, training.mixup_within, training.smote) == (0.5, 0.2, True, 0.2)


def normals(targets: int, rows: int) -> list[NormalClip]:
    """Twenty clips of so many segments, the last ones of the target domain."""
    rng = np.random.default_rng(0)
    nothing = np.zeros(4, np.float32)
    statistics = Statistics(-20.0, -8.0, 12.0, 3.0, nothing, nothing, np.zeros(9))
    return [
        NormalClip(
            Evidence(statistics, {"raw_embedding": rng.standard_normal((rows, 6)).astype(np.float32)}),
            recording=str(number),
            target=number >= 20 - targets,
        )
        for number in range(20)
    ]


def bank(name: str, clips: list[NormalClip]) -> NDArray[np.float32]:
    """The references that a head keeps."""
    learner = backend(name)
    head, z = fit_head({PartSpec("beta", "raw_embedding", learner.detector): learner}, clips)
    assert np.isfinite(z).all()
    detector = head.parts[0].detector
    assert isinstance(detector, Neighbours)
    return detector.references


@pytest.mark.parametrize(("targets", "rows", "virtual"), [(0, 8, 0), (1, 8, 22), (1, 1, 0), (2, 1, 1), (20, 8, 0)])
def test_a_machine_that_smote_cannot_serve_has_the_plain_bank(targets: int, rows: int, virtual: int) -> None:
    """Neither without targets nor with one row of them; with a fifth of the sources else."""
    clips = normals(targets, rows)
    plain, more = bank("knn", clips), bank("knn+smote", clips)
    assert len(plain) == 20 * rows
    np.testing.assert_array_equal(more[: len(plain)], plain)
    assert len(more) - len(plain) == virtual
