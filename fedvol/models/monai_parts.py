"""Which modules of MONAI's networks are stem, encoder, decoder and head.

Of two names, the longer counts. The stem is what depends on the image's channels, the head what
depends on the number of classes; in the transformers what MONAI calls encoder is encoder, skips
included.
"""

from collections.abc import Mapping

from fedvol.plan import TensorKind

Parts = Mapping[str, TensorKind]
STEM, ENCODER = TensorKind.STEM, TensorKind.ENCODER
DECODER, HEAD = TensorKind.DECODER, TensorKind.HEAD

VNET_PARTS: Parts = {
    "in_tr": STEM,
    **{f"down_tr{width}": ENCODER for width in (32, 64, 128, 256)},
    **{f"up_tr{width}": DECODER for width in (32, 64, 128, 256)},
    "out_tr": HEAD,
}
SEGRESNET_PARTS: Parts = {
    "convInit": STEM,
    "down_layers": ENCODER,
    "up_layers": DECODER,
    "up_samples": DECODER,
    "conv_final.2": HEAD,  # before it a norm and its activation
}
BASIC_UNET_PARTS: Parts = {
    "conv_0.conv_0": STEM,
    "conv_0": ENCODER,
    **{f"down_{level}": ENCODER for level in (1, 2, 3, 4)},
    **{f"upcat_{level}": DECODER for level in (1, 2, 3, 4)},
    "final_conv": HEAD,
}
UNETR_PARTS: Parts = {
    "vit": ENCODER,
    "vit.patch_embedding.patch_embeddings": STEM,
    "encoder1.layer.conv1": STEM,
    "encoder1.layer.conv3": STEM,
    **{f"encoder{number}": ENCODER for number in (1, 2, 3, 4)},
    **{f"decoder{number}": DECODER for number in (2, 3, 4, 5)},
    "out": HEAD,
}
SWIN_UNETR_PARTS: Parts = {
    "swinViT": ENCODER,
    "swinViT.patch_embed.proj": STEM,
    "encoder1.layer.conv1": STEM,
    "encoder1.layer.conv3": STEM,
    **{f"encoder{number}": ENCODER for number in (1, 2, 3, 4, 10)},
    **{f"decoder{number}": DECODER for number in (1, 2, 3, 4, 5)},
    "out": HEAD,
}
DENSENET_PARTS: Parts = {"features.conv0": STEM, "features": ENCODER, "class_layers": HEAD}
RESNET_PARTS: Parts = {
    "conv1": STEM,
    **{f"layer{level}": ENCODER for level in (1, 2, 3, 4)},
    "fc": HEAD,
}
