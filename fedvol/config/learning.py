"""What is learned at the sites: the task, its loss, and how it is optimised."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fedvol.config.base import Section
from fedvol.config.levels import Output
from fedvol.config.losses import DiceCE, Loss


class SegmentationTask(Section):
    """One class per voxel, with deep supervision where the network has it."""

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["segmentation"]
    loss: Loss = DiceCE(kind="dice_ce")
    """What is made smaller."""
    batch_dice: bool = False
    """Pool the overlap of classes over the batch instead of averaging it over samples; for every
    loss."""


Task = SegmentationTask


class Sgd(Section):
    """Stochastic gradient descent with Nesterov momentum."""

    kind: Literal["sgd"]
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-2
    """Initial learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Nesterov momentum; 0 is plain gradient descent."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 3e-5
    """L2 penalty."""


class AdamW(Section):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    kind: Literal["adamw"]
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """Initial learning rate."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    """Decay of the first and second moment."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-2
    """Decoupled weight decay."""


Optimiser = Annotated[Sgd | AdamW, Field(discriminator="kind")]


class Training(Section):
    """One local training step and the schedule over all of them."""

    optimiser: Optimiser
    """Which optimiser, with its settings."""
    optimiser_state: Literal["keep", "reset"] = "keep"
    """Whether moments stay at the site between rounds or start anew each round."""
    poly_power: Annotated[float, Field(ge=0, le=5)] = 0.9
    """Learning rate x (1 - step / all steps) ** power; 0 keeps it constant."""
    clip_grad_norm: Annotated[float, Field(ge=0)] = 12.0
    """Largest global L2 norm of a gradient; 0: not clipped."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of forward and backward; weights and sums stay float32. On a GPU convolutions of
    float32 round what they multiply to TF32 (11 significant bits), as PyTorch has it."""
    channels_last: bool = True
    """Memory layout; same mathematics, other speed."""
    compile: bool = Field(default=False, exclude_if=lambda is_on: not is_on)
    """Whether steps run the network through `torch.compile`: the first step takes seconds to
    minutes longer, the last bits are others. Needs a C++ compiler, on a GPU Triton."""
    num_threads: Annotated[int, Field(ge=1, le=256)] = 2
    """Threads of one local training on CPU; part of the plan because it changes the last bits."""
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 180.0
    """Seconds between local checkpoints inside a round."""
