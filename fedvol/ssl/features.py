"""What a pretext network's encoder makes of whole patches, and how far apart that lies.

A network that gives the same for every patch has learned nothing, whatever its loss says.

References: Chen and He (2021), arXiv:2011.10566, section 4.1 (the deviation of unit features);
Mardia and Jupp (2000), Directional Statistics, section 9.2 (the mean direction).
"""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from fedvol.models import encoders
from fedvol.models.encoders import pooled
from fedvol.ssl.judging import judging
from fedvol.ssl.mae_vit import TokenAutoencoder
from fedvol.ssl.networks import EncoderNetwork
from fedvol.ssl.s3d import SparseUNet
from fedvol.ssl.sparse import Visible
from fedvol.ssl.voco import Projected


def unit_features(
    net: nn.Module, image: Float[Tensor, "batch channel i j k"]
) -> Float64[np.ndarray, "batch feature"]:
    """The encoder's coarsest features of each patch, pooled and of length 1.

    The patches are whole: nothing is masked or blended. Features that are all 0 stay so.

    Args:
        net: A pretext task's network.
        image: Patches, on its device.
    """
    with judging(net):
        features = _pooled(net, image).cpu().double().numpy()
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, length, out=np.zeros_like(features), where=length > 0)


def squared_distances(
    features: Float64[np.ndarray, "patch feature"],
) -> Float64[np.ndarray, " patch"]:
    """How far each patch's unit features lie from the mean of all, squared.

    Their mean is the features' variance, summed over features: 0 where all are the same, 1 where
    they lie evenly around the sphere. It is d times the square of SimSiam's deviation, where every
    one of the d features varies as much.
    """
    return np.square(features - features.mean(axis=0)).sum(axis=1)


def _pooled(net: nn.Module, image: Tensor) -> Tensor:
    match net:
        case EncoderNetwork() | Projected():
            return pooled(net.body(image)[-1])
        case SparseUNet():
            blocks = torch.ones(len(image), 1, 1, 1, dtype=torch.bool, device=image.device)
            return pooled(net.encode(image, Visible(blocks))[-1])
        case TokenAutoencoder():
            num_tokens = net.places.shape[1]
            every = torch.arange(num_tokens, device=image.device).expand(len(image), -1)
            return pooled(net.encode(image, every))
        case _:
            return encoders.pooled_features(net, image)
