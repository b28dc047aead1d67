"""FedAvgM, FedAdam and FedYogi against loops written from the papers, and at their limits."""

from typing import Any

import numpy as np
import pytest

from fedvol.config import strategy as config
from fedvol.federation import Exchange, build_strategy, next_global
from fedvol.plan import TensorKind, TensorSpec

SPECS = (
    TensorSpec(name="w", shape=(3, 2), dtype="float32", kind=TensorKind.ENCODER),
    TensorSpec(name="b", shape=(4,), dtype="float32", kind=TensorKind.HEAD),
)
EXCHANGE = Exchange(shared=SPECS, local=())
WEIGHTS = (3.0, 1.0, 2.0)


class Held:
    def __init__(self, tensors) -> None:
        self.tensors = dict(tensors)

    def read(self, name):
        return self.tensors[name]


def start() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {s.name: generator.standard_normal(s.shape).astype(np.float32) for s in SPECS}


def updates(round_index: int, *, size: float = 0.02) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(100 + round_index)
    return [
        {s.name: (size * generator.standard_normal(s.shape)).astype(np.float32) for s in SPECS}
        for _ in WEIGHTS
    ]


def mean_of(parts: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    return sum(
        w * part[name].astype(np.float64) for w, part in zip(WEIGHTS, parts, strict=True)
    ) / sum(WEIGHTS)


def play(settings: Any, *, rounds: int, size: float = 0.02) -> dict[str, np.ndarray]:
    state = start()
    for index in range(1, rounds + 1):
        parts = [
            (w, Held(part)) for w, part in zip(WEIGHTS, updates(index, size=size), strict=True)
        ]
        state = dict(
            next_global(
                Held(state),
                parts,
                exchange=EXCHANGE,
                optimiser=build_strategy(settings).optimiser,
                is_first=index == 1,
            )
        )
    return state


def test_momentum_is_the_papers_loop() -> None:
    settings = config.FedAvgM(kind="fedavgm", momentum=0.7, server_learning_rate=0.5)
    state = play(settings, rounds=5)
    for spec in SPECS:
        w, v = start()[spec.name].astype(np.float64), 0.0
        for index in range(1, 6):
            v = 0.7 * v + mean_of(updates(index), spec.name)
            w = w + 0.5 * v
        np.testing.assert_allclose(state[spec.name], w, rtol=0, atol=1e-6)
        np.testing.assert_allclose(state[f"momentum|{spec.name}"], v, rtol=1e-5, atol=1e-7)


def test_no_momentum_at_rate_one_is_fedavg_bit_for_bit() -> None:
    plain = play(config.FedAvg(kind="fedavg"), rounds=3)
    state = play(config.FedAvgM(kind="fedavgm", momentum=0.0), rounds=3)
    for name, tensor in plain.items():
        np.testing.assert_array_equal(state[name], tensor)


@pytest.mark.parametrize("rule", ["adam", "yogi"])
def test_adaptive_servers_are_algorithm_2(rule: str) -> None:
    """Written from the paper, line by line, tensors apart."""
    kind: Any = {"adam": config.FedAdam, "yogi": config.FedYogi}[rule]
    beta1, beta2, tau, eta, rounds = 0.8, 0.95, 0.01, 0.05, 7
    state = play(
        kind(kind=f"fed{rule}", betas=(beta1, beta2), tau=tau, server_learning_rate=eta),
        rounds=rounds,
    )
    for spec in SPECS:
        x, m = start()[spec.name].astype(np.float64), np.zeros(spec.shape)
        v = np.full(spec.shape, tau**2)
        for index in range(1, rounds + 1):
            delta = mean_of(updates(index), spec.name)
            m = beta1 * m + (1 - beta1) * delta
            if rule == "yogi":
                v = v - (1 - beta2) * delta**2 * np.sign(v - delta**2)
            else:
                v = beta2 * v + (1 - beta2) * delta**2
            x = x + eta * m / (np.sqrt(v) + tau)
        np.testing.assert_allclose(state[spec.name], x, rtol=0, atol=2e-6)
        np.testing.assert_allclose(state[f"first_moment|{spec.name}"], m, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(state[f"second_moment|{spec.name}"], v, rtol=1e-4)


def test_without_memory_and_tau_adam_takes_steps_of_one_size() -> None:
    settings = config.FedAdam(kind="fedadam", betas=(0.0, 0.0), tau=1e-9, server_learning_rate=0.25)
    state, before = play(settings, rounds=1), start()
    for spec in SPECS:
        signs = np.sign(mean_of(updates(1), spec.name))
        np.testing.assert_allclose(state[spec.name], before[spec.name] + 0.25 * signs, atol=1e-5)


def test_with_a_large_tau_adam_is_fedavg_at_a_lower_rate() -> None:
    """Updates far below tau leave the second moment at its square: both roots are tau."""
    settings = config.FedAdam(kind="fedadam", betas=(0.0, 0.99), tau=1.0, server_learning_rate=2.0)
    state = play(settings, rounds=1, size=1e-3)
    for spec in SPECS:
        delta = mean_of(updates(1, size=1e-3), spec.name)
        moved = state[spec.name].astype(np.float64) - start()[spec.name]
        np.testing.assert_allclose(moved, delta, atol=1e-5 * 2)


def test_after_one_large_update_yogi_forgets_slower_than_adam() -> None:
    """Adam's second moment decays by its own size, Yogi's only by the square of the update."""

    def second_moments(kind: Any, name: str) -> np.ndarray:
        state = start()
        for index, size in enumerate((1.0, 1e-3, 1e-3, 1e-3, 1e-3), start=1):
            part = {s.name: np.full(s.shape, size, dtype=np.float32) for s in SPECS}
            state = dict(
                next_global(
                    Held(state),
                    [(1.0, Held(part))],
                    exchange=EXCHANGE,
                    optimiser=build_strategy(kind(kind=name, betas=(0.9, 0.5))).optimiser,
                    is_first=index == 1,
                )
            )
        return state["second_moment|w"]

    adam, yogi = (
        second_moments(config.FedAdam, "fedadam"),
        second_moments(config.FedYogi, "fedyogi"),
    )
    np.testing.assert_allclose(adam, 0.5**5, rtol=1e-3)
    np.testing.assert_allclose(yogi, 0.5, rtol=1e-3)
