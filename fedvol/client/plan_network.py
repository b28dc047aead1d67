"""The network of a plan, built once a process and used by its agents in turn."""

import torch
from torch import nn

from fedvol.config.strategy import Personalise, Pretrain, Stage
from fedvol.errors import PlanMismatchError, TransferError
from fedvol.federation import is_account_of, plan_exchange, terms_of, transfer_problems
from fedvol.models import (
    describe,
    describe_parts,
    initial_network,
    require_architecture,
    to_arrays,
)
from fedvol.plan import Plan, Pretraining
from fedvol.ssl import describe_pretraining, initial_pretext_network
from fedvol.training import require_compiler
from fedvol.types import State


class PlanNetwork:
    """A plan's network on a device, and what of it every site begins with.

    An agent loads every tensor before it uses the network, so agents that answer one after the
    other can share it.

    Args:
        plan: Whose network.
        device: Where it runs.

    Raises:
        PlanMismatchError: The network built here is not the plan's.
        TransferError: The plan begins with pretrained weights that do not fit its study.
        NoNormLayersError: The plan's strategy needs norm layers that are not there.
        CompileError: The plan asks for compiled networks, and this machine compiles none.
    """

    def __init__(self, plan: Plan, *, device: torch.device) -> None:
        if any(stage.training.compile for stage in plan.study.stages):
            require_compiler(device)
        self.device = device
        """Where it runs."""
        self.net = initial_network(plan.study)
        """The study's network."""
        require_architecture(self.net, plan.network)
        self.pretext: nn.Module | None = None
        """The pretext task's network, where something is pretrained."""
        if plan.study.pretrain is not None and plan.pretraining is not None:
            self.pretext = initial_pretext_network(plan.study, plan.study.pretrain)
            require_architecture(self.pretext, plan.pretraining.network)
            _require_same(plan.pretraining, plan=plan, pretext=self.pretext, net=self.net)
        if plan.study.weights is not None:
            _require_start(plan, net=self.net)
        self.initial_local: dict[int, State] = {}
        """Per stage, the local tensors of a site that has none yet; a personal model begins with
        the release instead."""
        for index, stage in enumerate(plan.study.stages):
            if isinstance(stage, Personalise):
                continue
            local = plan_exchange(plan, index).local
            self.initial_local[index] = to_arrays(self.of(stage), [spec.name for spec in local])
        self.initial_kept = _kept(self.net, plan) if plan.start is not None else {}
        """Where finetuning begins with a file: what of its network never travels, as it begins."""
        self.net.to(device=device)
        if self.pretext is not None:
            self.pretext.to(device=device)

    def of(self, stage: Stage) -> nn.Module:
        """The network that a stage trains."""
        if not isinstance(stage, Pretrain):
            return self.net
        assert self.pretext is not None
        return self.pretext


def _kept(net: nn.Module, plan: Plan) -> State:
    travelling = {spec.name for spec in plan_exchange(plan, plan.study.finetune_index).shared}
    return to_arrays(net, [name for name in net.state_dict() if name not in travelling])


def _require_same(
    pretraining: Pretraining, *, plan: Plan, pretext: nn.Module, net: nn.Module
) -> None:
    """Refuse a plan whose encoder, tensors taken over or record are not those of its study."""
    ours = describe_pretraining(plan.study, pretext=pretext, net=net)
    if ours.model_copy(update={"network": pretraining.network}) != pretraining:
        raise PlanMismatchError(
            "pretraining",
            "the plan calls other tensors the encoder, takes over others, or describes the "
            "weights otherwise, than its study says",
            "Use the fedvol version and the study the plan was made with.",
        )


def _require_start(plan: Plan, *, net: nn.Module) -> None:
    """Refuse pretrained weights whose record or account does not fit the study's network.

    Raises:
        PlanMismatchError: The plan tells nothing of them, or something else than can be.
        TransferError: By the study's own terms they must not be taken over.
    """
    network, terms = describe_parts(net), terms_of(plan.study, describe(net))
    start = plan.start
    if start is None or not is_account_of(network, start.record, start.report, terms=terms):
        raise PlanMismatchError(
            "start",
            "what the plan says of the pretrained weights does not fit its study's network",
            "Use the fedvol version and the study the plan was made with.",
        )
    problems = transfer_problems(network, start.record, start.report, terms=terms)
    if problems:
        raise TransferError("pretrained weights of the plan", problems)
