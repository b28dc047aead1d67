"""From pretrained weights into a network, with an account of every tensor."""

from torch import nn

from fedvol.errors import TransferError
from fedvol.federation import TransferTerms, match_state, transfer_problems
from fedvol.models.state import describe_parts, load_arrays
from fedvol.plan import AdaptationRecord, TransferReport
from fedvol.types import State


def transfer(
    net: nn.Module, state: State, record: AdaptationRecord, *, terms: TransferTerms, where: str = ""
) -> TransferReport:
    """Overwrite a network's tensors by pretrained ones; its head stays as it is.

    Args:
        net: The network.
        state: The weights, under their names in the file.
        record: What they were trained on.
        terms: What is taken over, and on which terms.
        where: How messages call the weights; empty: by their task.

    Raises:
        TransferError: The weights do not fit, or too few of them; carries every reason. The
            network is as it was.
        NameMapError: Two tensors of the file would have one name.
    """
    network = describe_parts(net)
    arrays, report = match_state(network, state, record, terms=terms)
    problems = transfer_problems(network, record, report, terms=terms)
    if problems:
        raise TransferError(where or f"weights of {record.task}", problems)
    load_arrays(net, arrays)
    return report
