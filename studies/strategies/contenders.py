"""What is compared: each strategy with fixed settings, and the reason for them."""

from dataclasses import dataclass

from studies.strategies.budget import Budget

FEDAVG = "fedavg"
LEARNING_RATE = 1e-2
"""AdamW at the sites, the rate of the demo, whose network this is."""

PERSONAL_RATE = 2e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One row of the tables.

    Attributes:
        name: Part of its folder's name.
        label: What the tables call it.
        strategy: The lines of the study's table `stages.strategy`.
        candidates: In its place, among what the pilot chooses: what the pilot's table calls each,
            and its lines.
        as_of: Whose choice it takes over, instead of a pilot of its own.
        method: The study's `stages.method`, for a row of personal models.
        learning_rate: Rate of a personal stage.
        starts_anew: Whether personal training takes all steps but one, so that each site is
            alone.
        baselines: Models trained beside it.
        model: Which of the run's models is the row.
        settings: Where it runs; none: everywhere.
        why: Reason for its settings.
    """

    name: str
    label: str
    why: str
    strategy: str = 'kind = "fedavg"'
    candidates: tuple[tuple[str, str], ...] = ()
    as_of: str = ""
    method: str = ""
    learning_rate: float = PERSONAL_RATE
    starts_anew: bool = False
    baselines: str = ""
    model: str = "federated"
    settings: tuple[str, ...] = ()

    def rounds(self, budget: Budget) -> tuple[tuple[int, int], tuple[int, int] | None]:
        """Rounds and steps a round of the federation, and of personal training."""
        if not self.method:
            return (budget.rounds, budget.steps_per_round), None
        if self.starts_anew:
            return (1, 1), (budget.rounds, budget.steps_per_round)
        federated = budget.rounds - budget.personal_rounds
        return (
            (federated, budget.steps_per_round),
            (budget.personal_rounds, budget.steps_per_round),
        )


CONTENDERS = (
    Contender(
        name=FEDAVG,
        label="FedAvg",
        baselines="pooled",
        why="the measure for all others; a site counts by its cases",
    ),
    Contender(
        name="fedavg_again",
        label="FedAvg once more",
        strategy='kind = "fedprox"\nmu = 0.0',
        why="FedProx with mu 0: FedAvg itself with other draws of patches; how far it is from "
        "FedAvg is chance, and so may be any difference that is no larger",
    ),
    Contender(
        name="fedavg_equal",
        label="FedAvg, each site counts the same",
        strategy='kind = "fedavg"\nweighting = "equal"',
        settings=("size",),
        why="under size skew only",
    ),
    Contender(
        name="fedprox_0.01",
        label="FedProx, mu 0.01",
        strategy='kind = "fedprox"\nmu = 0.01',
        why="the default",
    ),
    Contender(
        name="fedprox_0.1",
        label="FedProx, mu 0.1",
        strategy='kind = "fedprox"\nmu = 0.1',
        why="ten times that; with mu 1, the largest of the paper, a run of an eighth of this "
        "length hardly left the initial weights",
    ),
    Contender(
        name="fedavgm",
        label="FedAvgM",
        candidates=(
            (
                "momentum 0.5, server rate 1",
                'kind = "fedavgm"\nmomentum = 0.5\nserver_learning_rate = 1.0',
            ),
            (
                "momentum 0.9, server rate 0.3",
                'kind = "fedavgm"\nmomentum = 0.9\nserver_learning_rate = 0.3',
            ),
        ),
        why="by the pilot: momentum 0.5, which forgets within the few rounds there are, or the "
        "usual 0.9 with a server rate that keeps its steps from growing tenfold",
    ),
    Contender(
        name="fedadam",
        label="FedAdam",
        candidates=(
            ("server rate 0.01", 'kind = "fedadam"\nserver_learning_rate = 0.01'),
            ("server rate 0.03", 'kind = "fedadam"\nserver_learning_rate = 0.03'),
        ),
        why="by the pilot: server rate 0.01 or 0.03, of the order of a weight's change in a round",
    ),
    Contender(
        name="fedyogi",
        label="FedYogi",
        candidates=(
            ("server rate 0.01", 'kind = "fedyogi"\nserver_learning_rate = 0.01'),
            ("server rate 0.03", 'kind = "fedyogi"\nserver_learning_rate = 0.03'),
        ),
        as_of="fedadam",
        why="the rate of FedAdam",
    ),
    Contender(
        name="scaffold", label="SCAFFOLD", strategy='kind = "scaffold"', why="nothing to set"
    ),
    Contender(
        name="fedbn",
        label="FedBN",
        strategy='kind = "fedbn"',
        why="nothing to set; sites are judged with their own norm layers (instance norm)",
    ),
    Contender(
        name="finetune_all",
        label="FedAvg, then fine-tuning of all",
        method='kind = "finetune", parts = "all"',
        model="personalised",
        why="a third of the rounds; a fifth of the rate, because it starts from a trained model",
    ),
    Contender(
        name="finetune_head",
        label="FedAvg, then fine-tuning of the head",
        method='kind = "finetune", parts = "head"',
        learning_rate=LEARNING_RATE,
        model="personalised",
        why="a third of the rounds; the full rate, because few weights change",
    ),
    Contender(
        name="ditto",
        label="FedAvg, then Ditto, lambda 0.1",
        method='kind = "ditto", pull = 0.1',
        model="personalised",
        why="rounds and rate as for fine-tuning; lambda is one of the paper's",
    ),
    Contender(
        name="alone",
        label="each site alone",
        method='kind = "finetune", parts = "all"',
        learning_rate=LEARNING_RATE,
        starts_anew=True,
        model="personalised",
        why="reference: the steps a site takes in the federation (and one), from the same start",
    ),
)

POOLED = "pooled"
POOLED_LABEL = "all cases in one place"
