"""Masked tokens: what the transformer sees, where tokens lie, how they come into `unetr`."""

import pytest
import torch
from every_network import EVERY
from structured import learn, structured_volumes

from fedvol.config.network import UNETR, Network
from fedvol.config.pretext import MaskedTokens
from fedvol.config.pretext_checks import mae_vit_on
from fedvol.data.batch import UnlabelledBatch
from fedvol.errors import NetworkConfigError
from fedvol.models import build_network, load_arrays, to_arrays
from fedvol.models.state import parts_of
from fedvol.plan import TensorKind
from fedvol.ssl.mae_vit import (
    TokenAutoencoder,
    lay_out,
    mae_vit_network,
    mae_vit_task,
    name_in_unetr,
    visible_tokens,
)

UNETR_SECTION = UNETR(kind="unetr", features=4, hidden_size=24, mlp_dim=32, num_heads=2)
CONFIG = MaskedTokens(kind="mae_vit", decoder_layers=1, decoder_width=16)
PATCH = (32, 48, 16)
GRID = (2, 3, 1)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def autoencoder(*, channels: int = 1, seed: int = 0) -> TokenAutoencoder:
    net = mae_vit_network(CONFIG, UNETR_SECTION, in_channels=channels, patch=PATCH, seed=seed)
    assert isinstance(net, TokenAutoencoder)
    return net


def token_of(image: torch.Tensor, place: int) -> torch.Tensor:
    """The voxels of a token, counted along k first."""
    a, b, c = place // (GRID[1] * GRID[2]), place // GRID[2] % GRID[1], place % GRID[2]
    return image[:, :, 16 * a : 16 * a + 16, 16 * b : 16 * b + 16, 16 * c : 16 * c + 16]


def test_encoder_comes_into_unetr_by_name() -> None:
    net = autoencoder(channels=2)
    whole = build_network(UNETR_SECTION, in_channels=2, num_classes=3, patch=PATCH, seed=5)
    moved = {
        new: array
        for name, array in to_arrays(net).items()
        if (new := name_in_unetr(name)) is not None
    }
    assert set(moved) == {name for name in to_arrays(whole) if name.startswith("net.vit.")}
    load_arrays(whole, moved)  # refuses other shapes
    theirs = parts_of(whole)
    for name, part in parts_of(net).items():
        new = name_in_unetr(name)
        assert part == (TensorKind.HEAD if new is None else theirs[new]), name
    x = noise(2, 2, *PATCH)
    everything = torch.arange(6).expand(2, -1)
    torch.testing.assert_close(net.encode(x, everything), whole.net.vit(x)[0])


def test_tokens_are_encoded_in_the_order_asked_for_and_without_the_others() -> None:
    net, x = autoencoder(), noise(1, 1, *PATCH)
    some = net.encode(x, torch.tensor([[1, 4]]))
    torch.testing.assert_close(net.encode(x, torch.tensor([[4, 1]])), some.flip(1))
    for place in range(6):
        changed = x.clone()
        token_of(changed, place).add_(1.0)
        is_same = torch.equal(net.encode(changed, torch.tensor([[1, 4]])), some)
        assert is_same == (place not in (1, 4)), place


def test_nothing_depends_on_masked_voxels() -> None:
    net, x = autoencoder(), noise(2, 1, *PATCH)
    patches = mae_vit_task(CONFIG).transform(UnlabelledBatch(image=x, seed=0))
    visible = visible_tokens(patches.blocks)
    changed = torch.where(patches.voxels, 100.0 * noise(2, 1, *PATCH, seed=1), x)
    assert torch.equal(net(x, visible), net(changed, visible))
    seen = torch.where(patches.voxels, x, noise(2, 1, *PATCH, seed=1))
    assert not torch.allclose(net(x, visible), net(seen, visible))


def test_visible_tokens_by_hand() -> None:
    masked = torch.ones(2, 2, 3, 1, dtype=torch.bool)
    masked[0, 0, 1, 0] = masked[0, 1, 2, 0] = False
    masked[1, 1, 0, 0] = masked[1, 0, 0, 0] = False
    assert visible_tokens(masked).tolist() == [[1, 5], [0, 3]]


def test_tokens_are_laid_out_where_they_came_from() -> None:
    image = noise(2, 3, *PATCH)
    tokens = torch.stack([token_of(image, place).flatten(1) for place in range(6)], dim=1)
    assert torch.equal(lay_out(tokens, grid=GRID), image)


def test_masked_share_is_exact() -> None:
    patches = mae_vit_task(CONFIG).transform(UnlabelledBatch(image=noise(3, 1, 64, 64, 32), seed=1))
    assert patches.blocks.flatten(1).sum(1).tolist() == [24] * 3  # of 4 x 4 x 2
    assert visible_tokens(patches.blocks).shape == (3, 8)


def test_every_parameter_gets_a_gradient() -> None:
    net = autoencoder(channels=2).train()
    batch = UnlabelledBatch(image=noise(1, 2, *PATCH), seed=0)
    mae_vit_task(CONFIG).loss(net, batch).backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (to_arrays(autoencoder(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(array.tobytes() == again[name].tobytes() for name, array in first.items())
    for name in ("embed.weight", "places", "token", "blocks.0.mlp.linear1.weight"):
        assert first[name].tobytes() != other[name].tobytes()


@pytest.mark.full
def test_network_is_compiled_whole() -> None:
    """Only what `torch.compile` follows is at stake, so no C++ compiler is needed."""
    net, x, visible = autoencoder(), noise(2, 1, *PATCH), torch.tensor([[1, 4], [0, 3]])
    torch.compiler.reset()
    run = torch.compile(net, fullgraph=True, dynamic=False, backend="aot_eager")
    found = run(x, visible)
    found.square().mean().backward()
    torch.testing.assert_close(found, net(x, visible))
    torch.compiler.reset()


def test_bfloat16_gives_a_float32_loss() -> None:
    net = autoencoder()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mae_vit_task(CONFIG).loss(net, UnlabelledBatch(image=noise(2, 1, *PATCH), seed=0))
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(weight.grad.isfinite().all() for weight in net.parameters())


def test_restoring_is_learned() -> None:
    task = mae_vit_task(CONFIG)
    net = mae_vit_network(CONFIG, UNETR_SECTION, in_channels=1, patch=(32, 32, 32), seed=0)
    images = structured_volumes(8, 32, seed=0)
    learn(task, net, images=images[:6], batch_size=2, steps=75, rate=1e-2)
    score = task.score(net, UnlabelledBatch(image=images[6:], seed=100))
    assert score.loss < 0.7 * score.trivial_loss
    picture = task.picture(net, UnlabelledBatch(image=images[6:], seed=100))
    assert picture.given.shape == (1, 32, 32, 32)


def test_other_networks_are_refused() -> None:
    small = EVERY["swin_unetr"]
    with pytest.raises(NetworkConfigError, match="swin_unetr is no vision transformer"):
        mae_vit_network(CONFIG, small.config, in_channels=1, patch=small.patch, seed=0)


@pytest.mark.parametrize(
    ("config", "patch", "network", "where", "what"),
    [
        (CONFIG, PATCH, UNETR_SECTION, [], ""),
        (MaskedTokens(kind="mae_vit"), (96, 96, 96), UNETR(kind="unetr"), [], ""),
        (CONFIG, (32, 32, 32), EVERY["swin_unetr"].config, ["network.kind"], "swin_unetr"),
        (
            MaskedTokens(kind="mae_vit", decoder_width=17),
            PATCH,
            UNETR_SECTION,
            ["task.decoder_width"],
            "17 values per token cannot be divided among the network's 2 heads",
        ),
        (CONFIG, (16, 16, 16), UNETR_SECTION, ["task.mask_ratio"], "1 cubes of 16 voxels"),
    ],
)
def test_checks(
    config: MaskedTokens,
    patch: tuple[int, int, int],
    network: Network,
    where: list[str],
    what: str,
) -> None:
    problems = list(mae_vit_on(config, where="task", patch=patch, network=network))
    assert [problem.where for problem in problems] == where
    assert all(what in problem.what for problem in problems)
