"""Learning rate as a function of the global step alone, so a restart changes nothing."""


def poly_learning_rate(initial: float, *, step: int, total_steps: int, power: float) -> float:
    """Decay polynomially: initial x (1 - step / total_steps) ** power.

    Args:
        initial: Learning rate of step 0.
        step: Steps done in the whole stage, all rounds counted.
        total_steps: Steps of the whole stage.
        power: Shape of the decay; 0 keeps the rate constant.

    Reference: Chen et al. (2018), arXiv:1606.00915, section 4.1.
    """
    return initial * (1.0 - step / total_steps) ** power
