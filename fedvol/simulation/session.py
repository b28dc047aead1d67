"""`Session`: the hospitals of one machine, and the runs that are conducted over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fedvol.client.agent import SiteAgent
from fedvol.client.agent_spec import AgentSpec, open_agent
from fedvol.client.cases import SiteCases, open_cases
from fedvol.client.plan_network import PlanNetwork
from fedvol.client.prepare import PreparedSite, prepare_sites
from fedvol.client.pretraining import trainable
from fedvol.config import SIMULATION_POLICY, OpenStudy, Study, model_names
from fedvol.config.pretext import needed_cases
from fedvol.data.layout import has_subjects
from fedvol.errors import UsageError
from fedvol.federation import build_exchange
from fedvol.files import write_atomic
from fedvol.models import initial_network
from fedvol.plan import Plan, canonical_json
from fedvol.server import Coordinator, SystemClock
from fedvol.simulation.baselines import POOLED_SITE, baseline_study, local_run
from fedvol.simulation.engines import Engine, EngineName, start_engine
from fedvol.simulation.federate import Federated, federate_over, make_plan, take_over
from fedvol.simulation.output import Output, require_same_simulation
from fedvol.simulation.planning import NUM_WORKERS, case_teller, close_for_simulation
from fedvol.store import BlobStore, PretrainedFile, RunStore, open_engine
from fedvol.telemetry import Observer
from fedvol.types import RunId, SiteId, State

FEDERATED = RunId(model_names.FEDERATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Everything the runs of one simulation share.

    Attributes:
        study: The study.
        plan: The federated run's plan.
        initial: Its initial weights.
        weights: The file of pretrained weights it begins with; None where it has none.
        sites: Each hospital's prepared data.
        cases: The usable cases of each.
        output: Where everything lies.
        store: Records of every run.
        device: Where networks run.
        observer: Hears of progress.
        engine: Where sites work.
        has_subjects: Whether a table names subjects; if not, each case counts as one.
    """

    study: Study
    plan: Plan
    initial: State
    weights: PretrainedFile | None
    sites: Mapping[SiteId, PreparedSite]
    cases: Mapping[SiteId, SiteCases]
    output: Output
    store: RunStore
    device: torch.device
    observer: Observer
    engine: Engine
    has_subjects: bool

    @property
    def training_sites(self) -> tuple[SiteId, ...]:
        """Hospitals with labelled training cases; the others sit the training out."""
        return tuple(site for site, cases in self.cases.items() if cases.train)

    @property
    def has_local_tensors(self) -> bool:
        """Whether sites keep tensors of their own, so that the released file is not all of it."""
        strategy = self.study.finetune.strategy
        return bool(build_exchange(self.plan.network, strategy=strategy).local)

    def federated(self) -> Federated:
        """Conduct the federated run and have every site judge its release."""
        specs = {site: self._spec(site) for site in self.sites}
        coordinator = self._coordinator(FEDERATED, self.plan, self.initial)
        return self._conduct(coordinator, specs, test=True)

    def local(self, site: SiteId) -> Federated:
        """Train at one site alone, with the gradient steps of the whole federation."""
        return self._alone(local_run(site), site, [site])

    def pooled(self) -> Federated:
        """Train on all sites' cases as if one hospital held them."""
        return self._alone(RunId(model_names.POOLED), POOLED_SITE, sorted(self.cases))

    def baseline_study(self) -> Study:
        """The study of every baseline.

        Raises:
            UsageError: It cannot be, because a round would have too many steps.
        """
        return baseline_study(
            self.study,
            num_sites=len(self.training_sites),
            num_pretraining=sum(self.can_pretrain(cases) for cases in self.cases.values()),
        )

    def require_local(self) -> None:
        """Refuse a model of each site alone where one of them could not pretrain.

        Raises:
            UsageError: A site has a single case, and the pretext task blends two; or none as large
                as a patch that has to be whole.
        """
        unable = [site for site in self.training_sites if not self.can_pretrain(self.cases[site])]
        if self.study.pretrain is not None and unable:
            task = self.study.pretrain.task
            raise UsageError(
                "--baselines",
                f"{', '.join(unable)} cannot pretrain alone by {task.kind}, which needs "
                f"{needed_cases(task)}",
                "Leave out local and ensemble, or choose another pretext task.",
            )

    def can_pretrain(self, cases: SiteCases) -> bool:
        """Whether there is a pretrain stage, and whoever has these cases takes part in it."""
        return bool(trainable(cases.pretrain, self.study))

    def blobs(self, run: RunId) -> BlobStore:
        """A run's weights."""
        return BlobStore(self.output.blobs / run)

    def agent(self, site: SiteId) -> SiteAgent:
        """A hospital's side of the federated run, in this process."""
        return open_agent(
            self._spec(site),
            plan=self.plan,
            cases=self.cases[site],
            network=PlanNetwork(self.plan, device=self.device),
            observer=self.observer,
        )

    def _alone(self, run: RunId, site: SiteId, sources: Sequence[SiteId]) -> Federated:
        study = self.baseline_study()
        plan, initial = make_plan(
            study, sites=(site,), planning=self.plan.planning, weights=self.weights
        )
        folder = self.output.baseline(run)
        plan_file = folder / "plan.json"
        write_atomic(plan_file, canonical_json(plan.model_dump(mode="json")))
        spec = self._describe(site, plan, plan_file=plan_file, folder=folder, sources=sources)
        coordinator = self._coordinator(run, plan, initial)
        return self._conduct(coordinator, {site: spec}, test=False)

    def _spec(self, site: SiteId) -> AgentSpec:
        return self._describe(
            site,
            self.plan,
            plan_file=self.output.plan,
            folder=self.output.site(site),
            sources=[site],
        )

    def _describe(
        self,
        site: SiteId,
        plan: Plan,
        *,
        plan_file: Path,
        folder: Path,
        sources: Sequence[SiteId],
    ) -> AgentSpec:
        return AgentSpec(
            site=site,
            plan_file=str(plan_file.absolute()),
            plan=plan.digest,
            folder=str(folder.absolute()),
            cases={source: str(self.output.site(source).absolute()) for source in sources},
            is_pooled=list(sources) != [site],
            policy=SIMULATION_POLICY,
            resampling_key=self.plan.digest,
        )

    def _conduct(
        self, coordinator: Coordinator, specs: Mapping[SiteId, AgentSpec], *, test: bool
    ) -> Federated:
        failures: list[Exception] = []
        return federate_over(
            lambda server: self.engine.run(server, specs, failures=failures),
            coordinator,
            failures=failures,
            test=test,
        )

    def _coordinator(self, run: RunId, plan: Plan, initial: State) -> Coordinator:
        return Coordinator(
            run=run,
            plan=plan,
            initial=initial,
            store=self.store,
            blobs=self.blobs(run),
            clock=SystemClock(),
            observer=self.observer,
        )


def open_session(
    study: OpenStudy,
    *,
    data: Path,
    output: Output,
    device: torch.device,
    observer: Observer,
    weights: PretrainedFile | None = None,
    engine: EngineName = "in-process",
    workers: int | None = 1,
) -> Session:
    """Plan what the study leaves open; prepare every hospital's cases; open the records.

    Args:
        study: The study.
        data: Folder of volumes.
        output: Where everything lies.
        device: Where networks run.
        observer: Hears of progress.
        weights: The file of pretrained weights that the study names.
        engine: Where sites work; whoever opens the session closes it.
        workers: Sites that work at one time; None: as suits the machine.

    Raises:
        DataError: A table, a split or too many cases are faulty, or a subject is in two places.
        EngineError: The engine is not installed, or does not start.
        PlanningError: The data do not allow a plan.
        RunMismatchError: The folder holds a run of another study or other data.
        TransferError: The pretrained weights do not fit; carries every reason.
    """
    names_subjects = has_subjects(data)
    if not names_subjects:
        observer.event("subjects.unnamed", data=str(data))
    closed = close_for_simulation(study, data=data, output=output, observer=observer)
    if weights is not None and study.open_keys:  # told before hours of preparing
        take_over(initial_network(closed.study), closed.study, weights)
    sites = prepare_sites(
        data,
        study=closed.study,
        folder_of=output.site,
        workers=NUM_WORKERS,
        on_case=case_teller(observer, event="prepare.case"),
    )
    closed.require_unchanged({site: prepared.records for site, prepared in sites.items()})
    plan, initial = make_plan(
        closed.study, sites=tuple(sites), planning=closed.record, weights=weights
    )
    require_same_simulation(
        output,
        plan=plan.digest,
        data={site: prepared.digest for site, prepared in sites.items()},
        device=device.type,
    )
    write_atomic(output.plan, canonical_json(plan.model_dump(mode="json")))
    cases = {
        site: open_cases(prepared.records, store=prepared.store) for site, prepared in sites.items()
    }
    started = start_engine(
        engine,
        workers=workers,
        num_threads=study.finetune.training.num_threads,
        cases=cases,
        device=device,
        observer=observer,
    )
    return Session(
        study=closed.study,
        plan=plan,
        initial=initial,
        weights=weights,
        sites=sites,
        cases=cases,
        output=output,
        store=RunStore(open_engine(output.database)),
        device=device,
        observer=observer,
        engine=started,
        has_subjects=names_subjects,
    )
