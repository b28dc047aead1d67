"""From pretrained weights into a network, with an account of every tensor."""

from collections.abc import Sequence

from torch import nn

from fedvol.config.data import Normalisation
from fedvol.errors import TransferError
from fedvol.federation.transfer import (
    NewStem,
    TransferReport,
    match_state,
    transfer_problems,
)
from fedvol.models.state import describe_parts, load_arrays
from fedvol.plan.adaptation import AdaptationRecord, Transfers
from fedvol.types import State


def transfer(
    net: nn.Module,
    state: State,
    record: AdaptationRecord,
    *,
    channels: Sequence[str],
    normalisation: Normalisation | None,
    parts: Transfers = "encoder",
    new_stem: NewStem = "refuse",
    least_share: float = 0.95,
) -> TransferReport:
    """Overwrite a network's tensors by pretrained ones; its head stays as it is.

    Args:
        net: The network.
        state: The weights, under their names in the file.
        record: What they were trained on.
        channels: Names of the image channels the network is for.
        normalisation: How its intensities are brought to one scale; None allows any.
        parts: The encoder with its stem ("encoder"), or all but the head ("whole").
        new_stem: Where the channels are others than in pretraining: begin with a new stem
            ("random"), with the old one for the new channels ("copy"), or not at all ("refuse").
        least_share: Share of the values of every part asked for that must be taken over.

    Raises:
        TransferError: The weights do not fit, or too few of them; carries every reason. The
            network is as it was.
        NameMapError: Two tensors of the file would have one name.
    """
    network = describe_parts(net)
    arrays, report = match_state(
        network, state, record, channels=channels, parts=parts, new_stem=new_stem
    )
    problems = transfer_problems(
        network,
        record,
        report,
        channels=channels,
        normalisation=normalisation,
        parts=parts,
        new_stem=new_stem,
        least_share=least_share,
    )
    if problems:
        raise TransferError(f"weights of {record.task}", problems)
    load_arrays(net, arrays)
    return report
