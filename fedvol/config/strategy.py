"""How sites' updates become one global model."""

from typing import Annotated, Final, Literal

from pydantic import Field

from fedvol.config.base import Section
from fedvol.config.data import Augmentation, BatchSize, PatchSize
from fedvol.config.learning import Training
from fedvol.config.pretext import PretextTask, RotationPrediction, VoCo

LONGEST_WAIT_S = 30 * 86400.0
"""Longest time limit of an answer, seconds."""
MOST_STEPS = 1_000_000
"""Most gradient steps of a site in a round."""


class _Strategy(Section):
    weighting: Literal["cases", "equal"] = "cases"
    """What a site's update counts by: training cases, or one each."""


class FedAvg(_Strategy):
    """Weighted mean of all weights (McMahan et al. 2017)."""

    kind: Literal["fedavg"]


class FedProx(_Strategy):
    """FedAvg with (mu/2) ||w - w_t||^2 added to each local loss (Li et al. 2020)."""

    kind: Literal["fedprox"]
    mu: Annotated[float, Field(ge=0, le=100)] = 1e-2
    """Pull towards the global weights; 0 is FedAvg bit for bit."""


class FedBN(_Strategy):
    """FedAvg of everything but norm layers, which stay at their site (Li et al. 2021).

    A site that has no norm layers of its own, such as one that joins later or an external one,
    uses the mean of the training sites' (scale, shift, and batch norm's running mean and variance),
    gathered once when the stage ends; until then, the initial ones, and it does not vote on the
    best round.
    """

    kind: Literal["fedbn"]


class AdaptiveFedProx(_Strategy):
    """FedProx whose mu follows the training loss (Li et al. 2020, section 5.3.2 and figure 3).

    mu rises whenever the loss of all sites together rose against the round before, and falls,
    never below 0, after some falling rounds in a row. Any other round leaves it.
    """

    kind: Literal["adaptive_fedprox"]
    mu: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Pull of the first rounds; 0 is FedAvg until the loss first rises."""
    mu_step: Annotated[float, Field(gt=0, le=10)] = 0.1
    """How much mu rises or falls at once (Li et al. 2020: 0.1)."""
    falling_rounds: Annotated[int, Field(ge=1, le=1000)] = 5
    """Rounds in a row in which the loss must fall before mu does (Li et al. 2020: 5)."""


class FedAvgM(_Strategy):
    """FedAvg with momentum at the server (Hsu et al. 2019).

    The server keeps v and sets v = beta v + mean update, w = w + learning rate v.
    """

    kind: Literal["fedavgm"]
    server_learning_rate: Annotated[float, Field(gt=0, le=10)] = 1.0
    """Step of the server along its momentum."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """beta: how much of the last momentum stays; 0 with learning rate 1 is FedAvg bit for bit."""


class _AdaptiveServer(_Strategy):
    server_learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-2
    """Step of the server, about the largest change of a weight in one round; worth tuning."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.99,
    )
    """Decay of the first and second moment (Reddi et al. 2021: 0.9 and 0.99)."""
    tau: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """Degree of adaptivity: updates well below it are hardly rescaled (Reddi et al. 2021: 1e-3)."""


class FedAdam(_AdaptiveServer):
    """Adam at the server, without bias correction (Reddi et al. 2021, algorithm 2)."""

    kind: Literal["fedadam"]


class FedYogi(_AdaptiveServer):
    """Yogi at the server: the second moment changes by the square alone (Reddi et al. 2021)."""

    kind: Literal["fedyogi"]


class Scaffold(_Strategy):
    """FedAvg with control variates against the drift of unequal sites (Karimireddy et al. 2020).

    Each site adds c - c_i to every gradient: c_i is the mean of its own gradients in the last
    round it contributed to, c the mean of the c_i. Twice as many values travel in each direction.
    """

    kind: Literal["scaffold"]


Strategy = Annotated[
    FedAvg | FedProx | AdaptiveFedProx | FedAvgM | FedAdam | FedYogi | Scaffold | FedBN,
    Field(discriminator="kind"),
]


Travels = Literal["whole", "all_but_norms", "all_but_heads", "encoder"]

MOVES_ALONE = Augmentation(
    noise_probability=0.0,
    blur_probability=0.0,
    brightness_probability=0.0,
    contrast_probability=0.0,
    low_resolution_probability=0.0,
    gamma_probability=0.0,
    gamma_invert_probability=0.0,
)
"""Rotation, zoom and mirroring: intensities are what most pretext tasks restore."""


class PretrainPatches(Section):
    """What one step of pretraining sees, where it is not what a step of finetuning sees."""

    size: PatchSize
    """Voxels along i, j, k."""
    batch_size: BatchSize
    """Patches in one step; for a task of pairs each comes with a partner."""


class Collapse(Section):
    """When pretraining stops because the network gives the same for every patch.

    After each round the sites tell the variance of the encoder's features over patches of their
    validation cases (`feature_variance`): features of length 1, as Chen and He (2021) look at them.
    """

    rounds: Annotated[int, Field(ge=0, le=1000)] = 3
    """Rounds in a row with a smaller variance after which the run fails; 0: it never does."""
    least_variance: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """Smallest variance of features that are not collapsed."""


class Probe(Section):
    """A linear probe every few rounds: how well structures can be read off what is learned so far.

    Each site with labels trains new heads of the study's network, everything before them standing
    still, on its labelled training cases, and tells the Dice on its labelled validation cases
    (`probe_dice`). The heads are thrown away, and nothing is chosen by the figure. It reads labels
    in a stage that learns without, and is part of the sites' time to evaluate
    (`federation.evaluate_limit_s`).
    """

    every: Annotated[int, Field(ge=1, le=100_000)] = 5
    """Rounds from one probe to the next; the first is after so many."""
    steps: Annotated[int, Field(ge=1, le=10_000)] = 60
    """Gradient steps of the heads at each site, on patches as in finetuning, unaugmented."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-2
    """Learning rate of the heads (AdamW)."""


class Pretrain(Section):
    """Self-supervised training on the sites' training cases, labelled or not.

    Each site trains on every case of its training split. After each round the sites say how well
    the model does the task on their validation cases; the best round, by that loss, is where
    finetuning starts. Test cases are never used.
    """

    kind: Literal["pretrain"]
    task: PretextTask
    """What is learned."""
    strategy: Strategy
    """How updates are combined."""
    exchange: Travels = "whole"
    """What travels: everything, all but norm layers, all but what comes after the decoder, or stem
    and encoder alone. The rest stays at its site and is dropped when the stage ends."""
    rounds: Annotated[int, Field(ge=1, le=100_000)]
    """Rounds of the stage."""
    steps_per_round: Annotated[int, Field(ge=1, le=MOST_STEPS)]
    """Local gradient steps of each site in a round."""
    training: Training
    """Local optimisation."""
    patches: PretrainPatches | None = None
    """Patches of this stage; default those of the study."""
    augmentation: Augmentation | None = None
    """Random changes before the task's own; default rotation, zoom and mirroring as in the study's
    defaults, and none at all for `rotation` and `voco`, which ask where things are."""
    collapse: Collapse = Collapse()
    """When a network that learns nothing stops the run."""
    probe: Probe | None = Field(default=None, exclude_if=lambda probe: probe is None)
    """A look at what is learned by labels; default none."""

    def is_probed(self, round_index: int) -> bool:
        """Whether the sites probe after a round, counted from 1."""
        return self.probe is not None and round_index % self.probe.every == 0

    @property
    def changes(self) -> Augmentation | None:
        """Random changes of its patches; None for none."""
        if self.augmentation is not None:
            return self.augmentation
        return None if isinstance(self.task, RotationPrediction | VoCo) else MOVES_ALONE


NewStem = Literal["random", "copy", "refuse"]

Frozen = Literal["nothing", "encoder", "all_but_heads"]


class PretrainedWeights(Section):
    """A file of pretrained weights, in place of a pretrain stage.

    Weights of another encoder are refused. What stays at the sites in finetuning, such as norm
    layers under FedBN, begins there as it would without the file.
    """

    file: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None, exclude_if=lambda file: file is None
    )
    """The file: `pretrained.safetensors` of a run, or one made by `fedvol model import`. Its path,
    from the study file's folder on; no part of the plan."""
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """SHA-256 of the file, by which the plan knows it; another file is refused. Default: that of
    the file."""
    new_stem: NewStem = "refuse"
    """Where the channels are others than in pretraining: begin with a new stem, with the old one
    adapted (a channel of the same name keeps its weights, a new one has the mean of all), or not
    at all."""
    least_share: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Share of the values of each part asked for that the file must have."""
    other_normalisation: bool = False
    """Whether the weights may have been trained on intensities normalised otherwise."""
    other_spacing: bool = False
    """Whether voxels may have been more than 1.5 times longer or shorter along some axis: what was
    learned is of structures of another size in voxels."""


class Start(Section):
    """How finetuning starts from a pretrained network: the pretrain stage's, or that of a file."""

    weights: PretrainedWeights | None = Field(default=None, exclude_if=lambda one: one is None)
    """The file, where there is no pretrain stage."""
    parts: Literal["encoder", "whole"] = "whole"
    """What is taken over: stem and encoder, or everything both networks have; heads begin anew.
    A task that trains the encoder alone has nothing else to give: its file is refused where the
    whole is asked for."""
    frozen: Frozen = "nothing"
    """What stays as it was pretrained, norm layers in it included: with "encoder" decoder and heads
    alone learn, with "all_but_heads" the heads alone, which is a linear probe."""
    heads_first_rounds: Annotated[int, Field(ge=0, le=100_000)] = 0
    """First rounds in which the heads alone learn."""


class Finetune(Section):
    """Supervised training on the sites' labelled cases."""

    kind: Literal["finetune"]
    strategy: Strategy
    """How updates are combined."""
    rounds: Annotated[int, Field(ge=1, le=100_000)]
    """Rounds of the stage."""
    steps_per_round: Annotated[int, Field(ge=1, le=MOST_STEPS)]
    """Local gradient steps of each site in a round."""
    training: Training
    """Local optimisation."""
    start: Start | None = Field(default=None, exclude_if=lambda start: start is None)
    """How it starts from a pretrained network; default as below, after a pretrain stage."""

    def start_from_pretrained(self) -> Start:
        """How it starts from the pretrained network."""
        return self.start or Start()


PersonalParts = Literal["all", "norms", "head", "decoder"]


class LocalFinetune(Section):
    """Each site trains on from the released global model, alone."""

    kind: Literal["finetune"]
    parts: PersonalParts = "all"
    """What changes: everything, norm layers wherever they are, the outputs alone, or decoder and
    outputs without their norm layers."""


class Ditto(Section):
    """Local training with (lambda/2) ||v - w||^2 towards the global model (Li et al. 2021).

    Here w is the released model, which stays what it is. The paper's algorithm 1 trains v beside
    w in every round; its objective for v, given the final w, is this one.
    """

    kind: Literal["ditto"]
    pull: Annotated[float, Field(ge=0, le=1000)] = 0.1
    """lambda: 0 is local fine-tuning bit for bit; the larger, the nearer the global model."""

    @property
    def parts(self) -> PersonalParts:
        """Everything changes."""
        return "all"


PersonalMethod = Annotated[LocalFinetune | Ditto, Field(discriminator="kind")]


class Personalise(Section):
    """A model of its own for each site, from the released one; nothing of it leaves the site.

    After each round the sites judge their own models on their own validation cases. The round
    that is best over all sites is the one whose personal models are tested. The release stays
    the global model.
    """

    kind: Literal["personalise"]
    method: PersonalMethod
    """How a personal model is trained."""
    rounds: Annotated[int, Field(ge=1, le=100_000)]
    """Rounds of the stage; the models are judged after each."""
    steps_per_round: Annotated[int, Field(ge=1, le=MOST_STEPS)]
    """Local gradient steps of each site in a round."""
    training: Training
    """Local optimisation; its schedule begins anew."""


STAGE_ORDER: Final = ("pretrain", "finetune", "personalise")
"""Kinds of stages in the order in which a run has them."""

Stage = Annotated[Pretrain | Finetune | Personalise, Field(discriminator="kind")]


class Participation(Section):
    """Who must take part, and how long anybody waits."""

    min_sites: Annotated[int, Field(ge=1, le=10_000)] = 2
    """Fewest sites whose updates may form a round; below it the round is abandoned."""
    max_abandoned_rounds: Annotated[int, Field(ge=0, le=1000)] = 2
    """Abandoned rounds in a row after which the run fails."""
    train_limit_s: Annotated[float, Field(gt=0, le=LONGEST_WAIT_S)] = 6 * 3600.0
    """Longest wait for a site's update, seconds."""
    evaluate_limit_s: Annotated[float, Field(gt=0, le=LONGEST_WAIT_S)] = 3600.0
    """Longest wait for a site's evaluation, seconds."""
