"""Every model of a simulation, judged on every hospital's test cases under one resampling."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from fedvol.client.cases import SiteCases
from fedvol.client.judging import inference_window, judge
from fedvol.config import model_names
from fedvol.config.model_names import (
    BASELINES,
    ENSEMBLE,
    LOCAL,
    NEW_SITE,
    PERSONALISED,
    POOLED,
    local_model,
)
from fedvol.federation import MetricSums, RoundState
from fedvol.models import initial_network, load_arrays
from fedvol.server import Outcome
from fedvol.server.history import participants
from fedvol.simulation.baselines import local_run
from fedvol.simulation.federate import Federated
from fedvol.simulation.session import FEDERATED, Session
from fedvol.store import SiteRound
from fedvol.training import place
from fedvol.types import Digest, RunId, SiteId
from fedvol.validation import Predictor, SlidingWindow, ensemble, single


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One model and its figures.

    Attributes:
        name: `federated`, `federated/new-site`, `personalised`, `local/SITE`, `ensemble` or
            `pooled`.
        run: The run that trained it; None for the ensemble.
        release: Digest of its weights; None for the ensemble, and for models that stay at sites.
        best_round: Round they come from; None for the ensemble.
        steps: Gradient steps of its run, over all sites; those after the best round are among them.
        seconds: Seconds of training of its run, over all sites.
        cases: Labelled training cases behind it.
        pretraining_cases: Cases that its run pretrained on, labelled or not.
        sums: Per site, sums over its test cases.
    """

    name: str
    run: RunId | None
    release: Digest | None
    best_round: int | None
    steps: int
    seconds: float
    cases: int
    pretraining_cases: int
    sums: Mapping[SiteId, MetricSums]


def train_and_judge(session: Session, *, baselines: Sequence[str]) -> Iterator[Judged]:
    """Train the federated model and the baselines asked for, and judge each on all test cases.

    One after the other, the federated one first: what was judged is there, should a later one
    fail. Baselines that an earlier call has judged already are judged models of this one too.
    """
    baselines = [*baselines, *_held_baselines(session)]
    if baselines:
        session.baseline_study()  # one that cannot be is told before any training
    sites = session.training_sites if {LOCAL, ENSEMBLE} & {*baselines} else ()
    if sites:
        session.require_local()
    pooled = [RunId(POOLED)] if POOLED in baselines else []
    runs = [FEDERATED, *(local_run(site) for site in sites), *pooled]
    session.observer.event("runs.planned", names=[*map(str, runs)])
    federated = session.federated()
    yield _federated(session, federated)
    if session.has_local_tensors:
        outcome = federated.outcome
        yield _release_of(session, NEW_SITE, FEDERATED, outcome, sites=session.sites)
    if federated.outcome.personal_round is not None:
        yield _personalised(session, federated)
    outcomes: dict[SiteId, Outcome] = {}
    for site in sites:
        outcomes[site] = outcome = session.local(site).outcome
        if LOCAL in baselines:
            yield _release_of(session, local_model(site), local_run(site), outcome, sites=[site])
    if ENSEMBLE in baselines:
        yield _ensemble(session, outcomes)
    if POOLED in baselines:
        outcome = session.pooled().outcome
        yield _release_of(session, POOLED, RunId(POOLED), outcome, sites=session.sites)


def _held_baselines(session: Session) -> list[str]:
    """Baselines whose figures are in the store, whole."""
    models: dict[str, list[str]] = {name: [name] for name in BASELINES}
    models[LOCAL] = [local_model(site) for site in session.training_sites]
    tested = {site for site, cases in session.cases.items() if cases.test}
    return [
        name
        for name, parts in models.items()
        if tested
        and all(tested <= session.store.evaluations(FEDERATED, model=m).keys() for m in parts)
    ]


def _federated(session: Session, federated: Federated) -> Judged:
    return Judged(
        name=model_names.FEDERATED,
        run=FEDERATED,
        release=federated.outcome.release,
        best_round=federated.outcome.best_round,
        steps=_steps(session, FEDERATED, up_to=session.study.finetune_index),
        seconds=_seconds(session, FEDERATED, up_to=session.study.finetune_index),
        cases=_num_cases(session, session.sites),
        pretraining_cases=_num_pretraining(session, FEDERATED),
        sums=federated.tests,
    )


def _personalised(session: Session, federated: Federated) -> Judged:
    """The personal models: what the federated model cost, and what each site added."""
    return Judged(
        name=PERSONALISED,
        run=FEDERATED,
        release=None,
        best_round=federated.outcome.personal_round,
        steps=_steps(session, FEDERATED),
        seconds=_seconds(session, FEDERATED),
        cases=_num_cases(session, session.sites),
        pretraining_cases=_num_pretraining(session, FEDERATED),
        sums=federated.personal_tests,
    )


def _release_of(
    session: Session, name: str, run: RunId, outcome: Outcome, *, sites: Iterable[SiteId]
) -> Judged:
    """The released file of a run, judged as it is by everybody."""
    predictor = single(_network(session, run, outcome.release), window=_window(session))
    return Judged(
        name=name,
        run=run,
        release=outcome.release,
        best_round=outcome.best_round,
        steps=_steps(session, run, up_to=session.study.finetune_index),
        seconds=_seconds(session, run, up_to=session.study.finetune_index),
        cases=_num_cases(session, sites),
        pretraining_cases=_num_pretraining(session, run),
        sums=_judge(session, name, predictor),
    )


def _ensemble(session: Session, outcomes: Mapping[SiteId, Outcome]) -> Judged:
    nets = [
        _network(session, local_run(site), outcome.release) for site, outcome in outcomes.items()
    ]
    runs = [local_run(site) for site in outcomes]
    return Judged(
        name=ENSEMBLE,
        run=None,
        release=None,
        best_round=None,
        steps=sum(_steps(session, run) for run in runs),
        seconds=sum(_seconds(session, run) for run in runs),
        cases=_num_cases(session, outcomes),
        pretraining_cases=sum(_num_pretraining(session, run) for run in runs),
        sums=_judge(session, ENSEMBLE, ensemble(nets, window=_window(session))),
    )


def _judge(session: Session, name: str, predictor: Predictor) -> dict[SiteId, MetricSums]:
    """Judge a model at every site; what an earlier call wrote is kept."""
    held = session.store.evaluations(FEDERATED, model=name)
    sums: dict[SiteId, MetricSums] = {}
    for site, cases in session.cases.items():
        if not cases.test:
            continue
        if site not in held:
            part = _judge_site(session, name, predictor, site, cases)
            session.store.put_evaluation(FEDERATED, model=name, site=site, sums=part)
            sums[site] = part
        else:
            sums[site] = held[site]
    return sums


def _judge_site(
    session: Session, name: str, predictor: Predictor, site: SiteId, cases: SiteCases
) -> MetricSums:
    evaluation = session.study.evaluation
    judged = judge(
        predictor,
        cases.test,
        site=site,
        plan=session.plan,
        metrics=evaluation.metrics,
        replicates=evaluation.bootstrap_replicates,
        resampling_key=session.plan.digest,
        rows=None,
        on_case=lambda done, total: session.observer.event(
            "model.evaluating", model=name, site=site, done=done, total=total
        ),
    )
    return judged.sums


def _network(session: Session, run: RunId, release: Digest) -> torch.nn.Module:
    net = initial_network(session.study)
    with session.blobs(run).open(release) as file:
        load_arrays(net, file.read_all())
    place(net, training=session.study.finetune.training, device=session.device)
    return net


def _window(session: Session) -> SlidingWindow:
    return inference_window(session.plan, device=session.device, mirror=True)


def _num_cases(session: Session, sites: Iterable[SiteId]) -> int:
    return sum(len(session.cases[site].train) for site in sites)


def _num_pretraining(session: Session, run: RunId) -> int:
    """Cases that sites said they pretrained on in a run."""
    if session.study.pretrain is None:
        return 0
    return sum({site.site: site.cases or 0 for site in _taken(session, run, 0)}.values())


def _steps(session: Session, run: RunId, *, up_to: int | None = None) -> int:
    """Gradient steps of a run in its stages up to one, pretraining included, or in all."""
    return sum(site.steps or 0 for site in _taken(session, run, up_to))


def _seconds(session: Session, run: RunId, *, up_to: int | None = None) -> float:
    return sum(site.train_seconds or 0.0 for site in _taken(session, run, up_to))


def _taken(session: Session, run: RunId, up_to: int | None) -> list[SiteRound]:
    return [
        site
        for record in session.store.rounds(run)
        if record.state is RoundState.CLOSED and (up_to is None or record.stage <= up_to)
        for site in participants(record)
    ]
