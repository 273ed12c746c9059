from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import logsumexp
from torch import Tensor, nn
from torch.nn import functional

from edge_asd.errors import ConfigError
from edge_asd.score.backbone import view
from edge_asd.signal.view import LogMel
from tests.train.method.toy import batch, learn, lived, macs, size, task
from train.method.subcluster import (
    LARGEST,
    AdaProj,
    Excite,
    Map,
    Phase,
    Settings,
    Spectrum,
    Subcluster,
    SubclusterAdaCos,
    adapted,
    build,
    cross_entropy,
    drawn,
    features_exchanged,
    first_scale,
    gathered,
    members,
    same,
    statistics_exchanged,
    wrapped,
)
from train.pack.graph import to_onnx
from train.teach.recipe import load_recipe

if TYPE_CHECKING:
    from train.method.task import Batch, Task

pytestmark = pytest.mark.train
FRONT_ENDS = {"short": LogMel(n_fft=256, hop=128), "long": LogMel(n_fft=4096, hop=2048)}
VARIANTS: dict[str, dict[str, Any]] = {
    name: load_recipe(name).settings for name in ("subcluster", "subcluster-two", "subcluster-multires")
} | {
    "report": {"prelu": True, "phase": "angle", "spectrogram": "mel"},
    "increment": {"branches": ("stft", "phase"), "phase": "increment", "squeeze": 0},
    "adaproj": {"branches": ("fft", "stft"), "loss": "adaproj", "statistics_exchange": 0.5},
}


def about(groups: int = 3, samples: int = 32_000) -> Task:
    plain = task(2, [5] * groups, samples)
    return replace(plain, front_ends={**plain.front_ends, **FRONT_ENDS})


def subcluster(groups: int = 3, seed: int = 0, **given_settings: Any) -> Subcluster:  # noqa: ANN401 - any setting
    torch.manual_seed(seed)
    return build(about(groups), Settings.model_validate(given_settings))


def heard(network: Subcluster, sound: Tensor) -> list[Tensor]:
    """What a device gives the network of segments (B, S)."""
    known = about(samples=sound.shape[1])
    return [torch.from_numpy(view(name, known.front_ends, sound.numpy())) for name in network.embedder.views]


def noise(count: int, samples: int = 32_000, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(count, samples, generator=torch.Generator().manual_seed(seed))


def shown(network: Subcluster, count: int = 8, groups: int = 3) -> Batch:
    """A lesson of noise of other level in each group, with whole classes."""
    one = torch.arange(count) % groups
    views = heard(network, noise(count) * (1 + one[:, None]))
    target = functional.one_hot(one, groups).float()
    return replace(
        batch(count, about(groups)), views=dict(zip(network.embedder.views, views, strict=True)), group=target
    )


# The graph ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "parameters", "cost"),
    [(2, 1_448_960, 17.2e6), (10, 1_580_032, 85.8e6), (12, 1_612_800, 101.9e6), (18, 1_711_104, 153.3e6)],
)
def test_the_branch_on_the_spectrum_is_as_large_as_derived(seconds: int, parameters: int, cost: float) -> None:
    """methods.md §3.2: padded as Keras does, squeeze-excite 16, no bias but those of batch norm."""
    network = Spectrum(8_000 * seconds, Settings()).eval()
    assert size(network) == parameters
    assert macs(network, torch.zeros(1, 8_000 * seconds)) == pytest.approx(cost, rel=0.01)


@pytest.mark.parametrize(
    ("frames", "cost"),
    [(63, 74.5e6), (313, 372e6), (376, 447.6e6), (563, 666.6e6)],
    ids=["2 s", "10 s", "12 s", "18 s"],
)
def test_the_branch_on_the_spectrogram_is_as_large_as_derived(frames: int, cost: float) -> None:
    """methods.md §3.3: squeeze-excite 16, a norm at the head of every block, the first too."""
    network = Map(1, 513, Settings()).eval()
    assert size(network) == 972_562
    assert macs(network, torch.zeros(1, 1, 513, frames)) == pytest.approx(cost, rel=0.03)


def test_only_norms_have_a_bias() -> None:
    network = subcluster()
    with_bias = {type(m) for m in network.modules() if isinstance(getattr(m, "bias", None), nn.Parameter)}
    assert with_bias == {nn.BatchNorm1d, nn.BatchNorm2d}


def test_with_prelu_there_is_no_relu_left() -> None:
    kinds = {type(module) for module in subcluster(prelu=True).modules()}
    assert nn.PReLU in kinds
    assert nn.ReLU not in kinds


@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 32))
@settings(max_examples=50)
def test_padding_leaves_a_result_for_every_stride_begun(length: int, kernel: int, stride: int) -> None:
    before, after = same(length, kernel, stride)
    windows = (length + before + after - kernel) // stride + 1
    assert windows >= math.ceil(length / stride)
    assert 0 <= after - before <= 1
    if before:  # no more than needed
        assert windows == math.ceil(length / stride)


@given(gain_db=st.floats(-20, 20))
@settings(max_examples=5)
def test_with_logarithms_no_gain_is_heard(gain_db: float) -> None:
    network = subcluster(branches=("fft", "short", "stft", "long"), compress=True, stem=2, width=8).eval()
    sound = noise(2)
    with torch.no_grad():
        before, after = (network.embedder(*heard(network, gain * sound)) for gain in (1.0, 10 ** (gain_db / 20)))
    assert float((after - before).norm() / before.norm()) < 1e-2  # a bin may happen to be silent


def test_within_a_machine_only_its_own_classes_are_told_apart() -> None:
    """Against a softmax over the classes of each machine by itself."""
    about_it = replace(about(), sections=("s/a/0", "s/b/0"), groups=("s/a/0 x", "s/a/0 y", "s/b/0 x"))
    log_p = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    target = torch.tensor([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.8, 0.0]])
    machine = torch.stack([target[:, :2].sum(1), target[:, 2]], 1)
    within = cross_entropy(log_p, target) - cross_entropy(gathered(log_p, members(about_it)), machine)
    by_hand = -(target[:, :2] * log_p[:, :2].log_softmax(1)).sum(1).mean()
    assert float(within) == pytest.approx(float(by_hand), rel=1e-5)


def test_what_is_within_machines_is_a_part_of_the_loss() -> None:
    network = subcluster(branches=("fft",), feature_exchange=0.0, within=2.0)
    loss, parts = network.loss(shown(network), 0.0)
    assert float(loss.detach()) == pytest.approx(float((parts["l_plain"] + 2.0 * parts["l_within"]).detach()), rel=1e-5)
    assert 0.0 <= float(parts["l_within"].detach()) < float(parts["l_plain"].detach())


def test_with_logarithms_silence_is_a_number() -> None:
    network = subcluster(branches=("fft", "stft"), compress=True, stem=2, width=8).eval()
    assert bool(network.embedder(*heard(network, torch.zeros(2, 32_000))).isfinite().all())


@pytest.mark.parametrize(("name", "most"), [("house_tiny", 0.3e6), ("house_small", 1e6), ("house_base", 3e6)])
def test_a_network_of_the_house_is_no_larger_than_its_name_says(name: str, most: float) -> None:
    recipe = load_recipe(f"subcluster-{name}")
    network = build(recipe.task(sections=("a",), groups=("a x", "a y")), Settings.model_validate(recipe.settings))
    assert 0.5 * most < size(network.embedder) <= most


@pytest.mark.parametrize("name", VARIANTS)
def test_an_embedding_is_the_branches_side_by_side_and_does_not_depend_on_its_batch(name: str) -> None:
    network = subcluster(**VARIANTS[name])
    lived(network)
    embedder, views = network.embedder, heard(network, noise(3))
    with torch.no_grad():
        e = embedder(*views)
        alone = torch.cat([embedder(*(view[[i]] for view in views)) for i in range(3)])
        apart = embedder.apart(views)
    assert e.shape == (3, 128 * len(network.settings.branches))
    torch.testing.assert_close(torch.cat(apart, dim=1), e)
    torch.testing.assert_close(alone, e, rtol=1e-4, atol=1e-5 * float(e.abs().max()))


@pytest.mark.parametrize(
    "chosen",
    [
        {"branches": ("fft", "phase"), "phase": "increment", "squeeze": 0, "prelu": True},
        {"branches": ("short", "phase"), "phase": "cos_sin"},
    ],
    ids=["plain", "excited"],
)
def test_onnx_runtime_gives_the_same_embedding(chosen: dict[str, Any]) -> None:
    network = subcluster(**chosen)
    lived(network)
    session = onnxruntime.InferenceSession(to_onnx(network.embedder, about()), providers=["CPUExecutionProvider"])
    views = heard(network, noise(1))
    given_out = session.run(["embedding"], {n: v.numpy() for n, v in zip(network.embedder.views, views, strict=True)})
    with torch.no_grad():
        e = network.embedder(*views).numpy()
    np.testing.assert_allclose(given_out[0], e, rtol=1e-3, atol=1e-4 * np.abs(e).max())


@pytest.mark.parametrize("name", VARIANTS)
def test_silence_has_an_embedding(name: str) -> None:
    network = subcluster(**VARIANTS[name])
    network.eval()
    with torch.no_grad():
        assert network.embedder(*heard(network, torch.zeros(1, 32_000))).isfinite().all()
    network.train()
    quiet = replace(
        shown(network, 4), views=dict(zip(network.embedder.views, heard(network, torch.zeros(4, 32_000)), strict=True))
    )
    total, _ = network.loss(quiet, 0.0)
    total.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_what_is_always_the_same_is_left_to_the_spectrum() -> None:
    """The spectrogram's branch is told nothing of a sound's mean magnitudes."""
    branch = lived(Map(1, 513, Settings()))
    image = torch.rand(2, 1, 513, 63)
    with torch.no_grad():
        louder = image + torch.linspace(0, 9, 513)[:, None]
        torch.testing.assert_close(branch(louder), branch(image), rtol=1e-3, atol=1e-4)


def test_squeeze_excite_weighs_channels_by_their_means() -> None:
    layer, x = Excite(32, Settings()), torch.randn(2, 32, 5, 7)
    inner, outer = (m.weight.detach().numpy() for m in layer.modules() if isinstance(m, nn.Linear))
    means = x.numpy().mean((2, 3))
    weights = 1 / (1 + np.exp(-np.maximum(means @ inner.T, 0) @ outer.T))
    with torch.no_grad():
        np.testing.assert_allclose(layer(x), x.numpy() * weights[:, :, None, None], rtol=1e-5, atol=1e-6)


# The phase ------------------------------------------------------------------------------------------------------------


def phases(form: str, tone_hz: float) -> Tensor:
    """Of a tone, as the branch sees them: (channels, F, T)."""
    layer = Phase(LogMel(), 513, Settings.model_validate({"phase": form}))
    tone = np.cos(2 * np.pi * tone_hz * np.arange(32_000) / 16_000).astype(np.float32)[None]
    return layer.formed(torch.from_numpy(view("phase", {"": LogMel()}, tone)))[0]


@given(st.integers(20, 490), st.floats(-0.45, 0.45))
@settings(max_examples=20, deadline=None)
def test_an_increment_is_how_far_a_tone_lies_from_its_bin(bin_number: int, beside: float) -> None:
    """A phase turns by 2π·f·H a frame; half of that bin's own is taken off, so that 2πδH/N is left."""
    found = phases("increment", (bin_number + beside) * 16_000 / 1024)[0, bin_number, 2:-2]
    np.testing.assert_allclose(found, 2 * math.pi * beside * 512 / 1024, atol=5e-3)


def test_cosine_and_sine_are_of_the_angle() -> None:
    (angle,), (cosine, sine) = phases("angle", 777.0).numpy(), phases("cos_sin", 777.0).numpy()
    np.testing.assert_allclose(cosine + 1j * sine, np.exp(1j * angle), atol=1e-5)


@given(st.floats(-50, 50))
def test_a_wrapped_angle_is_the_same_angle(angle: float) -> None:
    found = float(wrapped(torch.tensor(angle, dtype=torch.float64)))
    assert -math.pi <= found < math.pi + 1e-9
    assert math.remainder(found - angle, 2 * math.pi) == pytest.approx(0.0, abs=1e-9)


# Losses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "scale"), [(270, 11.84), (70, 9.93)])
def test_the_scale_begins_by_the_number_of_sub_centres(classes: int, scale: float) -> None:
    """methods.md §11, S = 16."""
    head = SubclusterAdaCos(8, classes, Settings(), trainable=False)
    assert float(head.scale) == pytest.approx(scale, abs=5e-3)


def test_two_subspaces_have_a_scale_too() -> None:
    assert first_scale(2) == 0.5


@given(st.integers(0, 99), st.floats(0.5, 40))
def test_the_next_scale_is_root_two_times_the_logarithm_of_the_mean_sum(seed: int, scale: float) -> None:
    """methods.md §3.6, in SciPy."""
    cosines = np.random.default_rng(seed).uniform(-1, 1, (7, 48))
    expected = math.sqrt(2) * np.log(np.mean(np.exp(logsumexp(scale * cosines, axis=1))))
    assert float(adapted(scale * torch.from_numpy(cosines))) == pytest.approx(expected, rel=1e-9)


def test_near_its_class_the_scale_is_divided_by_the_cosine_of_the_median_angle() -> None:
    logits = torch.randn(5, 9, dtype=torch.float64)
    ratio = adapted(logits, torch.tensor(0.3, dtype=torch.float64)) / adapted(logits, torch.tensor(0.0))
    assert float(ratio) == pytest.approx(1 / math.cos(0.3))
    torch.testing.assert_close(adapted(logits, torch.tensor(2.0)), adapted(logits))


@pytest.mark.parametrize("kind", [SubclusterAdaCos, AdaProj])
def test_a_scale_moves_in_training_alone_and_has_an_end(kind: type[SubclusterAdaCos | AdaProj]) -> None:
    torch.manual_seed(0)
    head = kind(6, 3, Settings(), trainable=True)
    e, target = torch.randn(8, 6), functional.one_hot(torch.arange(8) % 3, 3).float()
    first = float(head.scale)
    head.eval()(e, target)
    assert float(head.scale) == first
    head.train()
    log_p = [head(e, target) for _ in range(60)][-1]
    assert first != float(head.scale) <= LARGEST * first * (1 + 1e-6)
    log_p.sum().backward()
    assert head.scale.grad is None


def test_a_class_is_the_sum_of_its_sub_centres() -> None:
    """Eq. (1) in NumPy."""
    torch.manual_seed(0)
    head = SubclusterAdaCos(6, 4, Settings(subcentres=3), trainable=False).double().eval()
    e, target = torch.randn(5, 6, dtype=torch.float64), torch.rand(5, 4, dtype=torch.float64)
    rows, centres = e.numpy(), head.weight.numpy()
    cos = (rows @ centres.T) / np.linalg.norm(rows, axis=1)[:, None] / np.linalg.norm(centres, axis=1)
    powers = np.exp(float(head.scale) * cos)
    p = (powers / powers.sum(1, keepdims=True)).reshape(5, 4, 3).sum(2)
    np.testing.assert_allclose(head(e, target).exp(), p, rtol=1e-9)
    expected = -(target.numpy() * np.log(p)).sum(1).mean()
    assert float(cross_entropy(head(e, target), target)) == pytest.approx(expected)


def test_a_subspace_is_as_near_as_the_projection_onto_its_directions() -> None:
    """x_c = Σ_k (e·w_k) w_k, the directions not being orthogonal, and the cosine to it."""
    torch.manual_seed(0)
    head = AdaProj(6, 4, Settings(subspace=3), trainable=False).double()
    e = torch.randn(5, 6, dtype=torch.float64)
    w = head.weight.numpy() / np.linalg.norm(head.weight.numpy(), axis=2, keepdims=True)
    for row, found in zip(e.numpy(), head.cosines(e).numpy(), strict=True):
        unit = row / np.linalg.norm(row)
        for one, cos in zip(w, found, strict=True):
            x = one.T @ (one @ unit)
            assert cos == pytest.approx(unit @ x / np.linalg.norm(x))


def test_one_direction_is_a_line_through_both_ends() -> None:
    head = AdaProj(4, 2, Settings(subspace=1), trainable=False)
    torch.testing.assert_close(head.cosines(-head.weight[:, 0]).diagonal(), torch.ones(2))


# Exchanges ------------------------------------------------------------------------------------------------------------


def soft(rows: int, classes: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.dirichlet(np.ones(classes), rows))


def test_two_branches_give_three_blocks_of_classes() -> None:
    """methods.md §3.6: [y, 0, 0], or [0, ½ own, ½ of the other end of the batch]."""
    a, b, y = torch.arange(3.0)[:, None], 10 + torch.arange(3.0)[:, None], torch.eye(3)
    joint, target = features_exchanged([a, b], y, torch.tensor([-1, 1, 1]))
    assert joint.tolist() == [[0, 10], [1, 11], [2, 10]]
    assert target.tolist() == [
        [1, 0, 0] + 6 * [0],
        3 * [0] + [0, 0.5, 0] + [0, 0.5, 0],  # the middle of the batch is its own other end
        3 * [0] + [0, 0, 0.5] + [0.5, 0, 0],
    ]


@given(st.integers(2, 4), st.integers(0, 99))
def test_targets_of_exchanged_features_sum_to_one_and_every_block_tells_whose_branch_it_is(n: int, seed: int) -> None:
    y, rng = soft(6, 3, seed), np.random.default_rng(seed)
    chosen = torch.from_numpy(rng.integers(-1, n, 6))
    owners = [10 * branch + torch.arange(6.0)[:, None] for branch in range(n)]
    joint, target = features_exchanged(owners, y, chosen)
    torch.testing.assert_close(target.sum(1), torch.ones(6, dtype=torch.float64))
    for row in range(6):
        whole, *blocks = target[row].reshape(1 + n, 3)
        torch.testing.assert_close(whole, y[row] if chosen[row] < 0 else torch.zeros_like(whole))
        for branch, block in enumerate(blocks):
            owner = int(joint[row, branch]) - 10 * branch
            assert owner == (5 - row if chosen[row] == branch else row)
            torch.testing.assert_close(block, y[owner] / n if chosen[row] >= 0 else torch.zeros_like(block))


def test_of_two_branches_the_second_is_exchanged_of_three_any() -> None:
    torch.manual_seed(0)
    assert set(drawn(500, 2, 0.5).tolist()) == {-1, 1}
    assert set(drawn(500, 3, 0.5).tolist()) == {-1, 0, 1, 2}
    assert set(drawn(500, 3, 0.0).tolist()) == {-1}
    assert float((drawn(4000, 3, 0.5) < 0).float().mean()) == pytest.approx(0.5, abs=0.04)


def test_exchanged_statistics_are_those_of_the_other_end_and_the_shape_stays() -> None:
    image, y = torch.rand(3, 5, 40, dtype=torch.float64) * torch.tensor([1.0, 2.0, 5.0])[:, None, None], soft(3, 2)
    found, target = statistics_exchanged(image, y, torch.tensor([True, False, True]))
    torch.testing.assert_close(found[1], image[1])
    for row, other in ((0, 2), (2, 0)):
        torch.testing.assert_close(found[row].mean(1), image[other].mean(1))
        torch.testing.assert_close(found[row].std(1, correction=0), image[other].std(1, correction=0))
        alike = np.corrcoef(found[row].flatten(), image[row].flatten())[0, 1]
        assert alike > np.corrcoef(found[row].flatten(), image[other].flatten())[0, 1]
    torch.testing.assert_close(target[1], torch.cat([y[1], torch.zeros(4, dtype=torch.float64)]))
    torch.testing.assert_close(target[0], torch.cat([torch.zeros(2, dtype=torch.float64), y[0] / 2, y[2] / 2]))


@pytest.mark.parametrize(
    ("branches", "features", "statistics", "blocks"),
    [(2, 0.5, 0.0, 3), (3, 0.5, 0.0, 4), (2, 0.5, 0.5, 9), (2, 0.0, 0.5, 3), (2, 0.0, 0.0, 1)],
)
def test_the_second_head_has_a_block_for_every_exchange(
    branches: int, features: float, statistics: float, blocks: int
) -> None:
    names = ("fft", "stft", "phase")[:branches]
    network = subcluster(3, branches=names, feature_exchange=features, statistics_exchange=statistics)
    total, parts = network.loss(shown(network), 0.0)
    if blocks == 1:
        assert network.exchanged is None
        torch.testing.assert_close(total, parts["l_plain"])
    else:
        assert network.exchanged is not None
        assert len(network.exchanged.weight) == blocks * 3 * 16
        torch.testing.assert_close(total, parts["l_plain"] + parts["l_exchanged"])


# Training -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["subcluster", "adaproj"])
@pytest.mark.parametrize(("plain", "second"), [("fixed", "trainable"), ("trainable", "fixed")])
def test_everything_is_taught_but_centres_that_are_fixed(loss: str, plain: str, second: str) -> None:
    network = subcluster(loss=loss, centres=plain, exchanged_centres=second)
    total, _ = network.loss(shown(network, 4), 0.0)
    total.backward()  # type: ignore[no-untyped-call]
    learned = dict(network.named_parameters())
    assert [name for name, parameter in learned.items() if parameter.grad is None] == []
    assert ("plain.weight" in learned, "exchanged.weight" in learned) == (plain == "trainable", second == "trainable")
    assert {"plain.weight", "exchanged.weight", "plain.scale"} <= set(network.state_dict())


def test_held_out_segments_are_judged_as_they_are() -> None:
    network = subcluster(statistics_exchange=1.0, feature_exchange=1.0).eval()
    lesson = shown(network)
    with torch.no_grad():
        first, second = (network.loss(lesson, 1.0)[0] for _ in range(2))
    assert float(first) == float(second)


@pytest.mark.parametrize("name", ["subcluster-two", "adaproj"])
def test_a_few_steps_lower_the_loss(name: str) -> None:
    network = subcluster(4, **VARIANTS[name])
    losses = learn(network, shown(network, 8, 4), 5)
    assert losses[-1] < 0.85 * losses[0]


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"branches": ["fft", "fft"]}, "different ones, got"),
        ({"branches": ["fft"]}, r"feature_exchange = 0\.5 needs two branches"),
        ({"branches": ["fft", "phase"], "statistics_exchange": 0.5}, r"statistics_exchange = 0\.5 is of branch stft"),
    ],
)
def test_settings_that_cannot_be_together_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings.model_validate(wrong)


def test_one_group_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is one"):
        subcluster(1)


def test_a_branch_without_its_front_end_is_told_which_table_it_wants() -> None:
    with pytest.raises(ConfigError, match=r"branch short .* table \[front_ends\.short\]"):
        build(task(), Settings(branches=("fft", "short")))


@pytest.mark.parametrize(("branch", "samples", "seen"), [("stft", 1_600, 4), ("phase", 2_400, 4), ("long", 8_000, 4)])
def test_segments_too_short_for_a_branch_are_refused(branch: str, samples: int, seen: int) -> None:
    chosen = Settings.model_validate({"branches": ["fft", branch], "phase": "increment"})
    with pytest.raises(ConfigError, match=rf"branch {branch} sees {seen} bins or frames of .* make windows\.segment"):
        build(about(samples=samples), chosen)


def test_the_report_trains_with_adamax_and_fixed_centres() -> None:
    recipe = load_recipe("subcluster-paper")
    assert recipe.training is not None
    assert (recipe.training.optimizer, recipe.training.epochs, recipe.training.batch) == ("adamax", 10, 64)
    chosen = Settings.model_validate(recipe.settings)
    assert (chosen.phase, chosen.prelu, chosen.centres, chosen.spectrogram) == ("angle", True, "fixed", "linear")
    assert [(part.feature, part.backend) for part in recipe.parts] == [("embedding", "kmeans")]
