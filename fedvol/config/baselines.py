"""Names of the models that are trained and judged beside the federated one."""

BASELINES = ("local", "ensemble", "pooled")
"""Each site alone, the mean of those models' probabilities, and all cases in one place."""
