"""Pretext tasks: what a network learns from unlabelled volumes; each is an `Objective`."""

from fedvol.ssl.build import (
    build_pretext,
    describe_pretraining,
    initial_pretext_network,
    pretext_batch_size,
    pretext_patch,
)
from fedvol.ssl.task import Pretext, PretextPicture, PretextScore

__all__ = [
    "Pretext",
    "PretextPicture",
    "PretextScore",
    "build_pretext",
    "describe_pretraining",
    "initial_pretext_network",
    "pretext_batch_size",
    "pretext_patch",
]
