"""The network of a plan, built once a process and used by its agents in turn."""

import torch

from fedvol.config.strategy import Personalise
from fedvol.federation import stage_exchange
from fedvol.models import initial_network, require_architecture, to_arrays
from fedvol.plan import Plan
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
        NoNormLayersError: The plan's strategy needs norm layers that are not there.
        CompileError: The plan asks for compiled networks, and this machine compiles none.
    """

    def __init__(self, plan: Plan, *, device: torch.device) -> None:
        if any(stage.training.compile for stage in plan.study.stages):
            require_compiler(device)
        self.device = device
        """Where it runs."""
        self.net = initial_network(plan.study)
        """The network."""
        require_architecture(self.net, plan.network)
        self.initial_local: dict[int, State] = {}
        """Per stage, the local tensors of a site that has none yet; a personal model begins with
        the release instead."""
        for index, stage in enumerate(plan.study.stages):
            if isinstance(stage, Personalise):
                continue
            local = stage_exchange(plan.network, stage=stage).local
            self.initial_local[index] = to_arrays(self.net, [spec.name for spec in local])
        self.net.to(device=device)
