"""From records to `result.json`, the report, the model card and the checkpoints."""

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import fedvol
from fedvol.client.prepare import skipped_cases
from fedvol.client.pretraining import trainable
from fedvol.config import model_names
from fedvol.config.metrics import PRETEXT_LOSS
from fedvol.config.strategy import Personalise, Pretrain, Scaffold
from fedvol.errors import FedvolError, OutputFolderError
from fedvol.federation import MetricSums, RoundArguments, RoundState, Stat, difference, merge
from fedvol.files import atomic_path, digest_file
from fedvol.plan import class_names, digest_json, metric_keys
from fedvol.report import (
    Difference,
    DigestOf,
    EvaluationResult,
    ModelResult,
    PrivacyResult,
    Protection,
    Released,
    Result,
    RoundResult,
    SiteResult,
    SiteRound,
    StageResult,
    StatResult,
    load_pictures,
    load_pretext_pictures,
    read_result,
    save_pictures,
    write_model_card,
    write_report,
    write_result,
)
from fedvol.server.history import best_record, closed_rounds
from fedvol.simulation.judged import Judged
from fedvol.simulation.output import Output, held_plan
from fedvol.simulation.pictures import case_pictures
from fedvol.simulation.pretext_pictures import pretext_pictures
from fedvol.simulation.session import FEDERATED, Session
from fedvol.store import ALL_SITES, CheckpointKind, RoundRecord
from fedvol.types import Digest, RunId, SiteId

_VERSIONS = ("torch", "monai", "flwr", "numpy")


def publish(session: Session, judged: Sequence[Judged]) -> Result:
    """Write everything a finished simulation shows; written last is `result.json`."""
    files = _write_checkpoints(session, judged)
    result = build_result(session, judged, files=files)
    save_pictures(session.output.pictures, case_pictures(session, judged[0]))
    if session.study.pretrain is not None:
        save_pictures(session.output.pretext_pictures, pretext_pictures(session))
    _write_pages(session.output, result)
    write_result(session.output.result, result=result)
    return result


def publish_failure(session: Session, error: FedvolError, *, judged: Sequence[Judged]) -> None:
    """Write what there was when a run failed, and why; a finished result is left alone.

    A later call with `--resume` that succeeds writes the finished one over it.

    Raises:
        StoreError: It cannot be written.
    """
    output = session.output
    if output.result.exists() and read_result(output.result).status == "finished":
        return
    files = _write_checkpoints(session, judged)
    result = build_result(session, judged, files=files, reason=str(error))
    _write_pages(output, result)
    write_result(output.result, result=result)


def rebuild_report(folder: Path) -> Path:
    """Make report and model card of a run that ended again, from its figures alone.

    Raises:
        OutputFolderError: The folder holds no run that ended.
        StoreError: A file in it is damaged.
    """
    output = Output(folder=folder)
    if not output.result.is_file() or not output.plan.is_file():
        raise OutputFolderError(
            str(folder), "holds no run that ended", "Name the --out folder of one."
        )
    _write_pages(output, read_result(output.result))
    return output.report


def _write_pages(output: Output, result: Result) -> None:
    document = held_plan(output).model_dump(mode="json")
    plan = json.dumps(document, indent=2, sort_keys=True)
    write_report(
        output.report,
        result=result,
        plan_json=plan,
        pictures=load_pictures(output.pictures),
        pretext_pictures=load_pretext_pictures(output.pretext_pictures),
    )
    write_model_card(output.model_card, result=result, plan_json=plan)


def build_result(
    session: Session, judged: Sequence[Judged], *, files: Mapping[str, Digest], reason: str = ""
) -> Result:
    """Every figure of a simulation, from its records.

    Args:
        session: The simulation.
        judged: Its models, the federated one first; those judged before it failed.
        files: What lies under the output folder.
        reason: Why it failed; empty where it did not.
    """
    rounds = session.store.rounds(FEDERATED)
    study = session.study
    libraries = (*_VERSIONS, "ray") if session.engine.name == "ray" else _VERSIONS
    return Result(
        status="failed" if reason else "finished",
        reason=reason,
        simulation=True,
        study=DigestOf(name=study.name, digest=digest_json(study.model_dump(mode="json"))),
        plan=DigestOf(digest=session.plan.digest),
        purpose=study.purpose,
        seed=study.seed,
        versions={"fedvol": fedvol.__version__, **{name: version(name) for name in libraries}},
        device=session.device.type,
        engine=session.engine.name,
        workers=session.engine.num_workers,
        seconds=sum(record.seconds for record in rounds),
        sites={site: _site(session, site) for site in session.sites},
        stages=[_stage(session, rounds, index, judged) for index in range(len(study.stages))],
        models={model.name: _model(session, model) for model in judged},
        evaluation={model.name: _evaluation(session, model.sums) for model in judged},
        comparisons={
            model.name: _differences(session, judged[0].sums, model.sums) for model in judged[1:]
        },
        privacy=PrivacyResult(
            released=Released(what=_released(session)),
            secure_sum=Protection(
                state="off", words="in a simulation there is no server to hide an update from"
            ),
            differential_privacy=Protection(state="off"),
            suppression=Protection(state="off", words="every case is the researcher's own"),
        ),
        skipped={
            site: dict(session.cases[site].skipped)
            for site in session.sites
            if session.cases[site].skipped
        },
        skipped_cases=skipped_cases(session.sites),
        overlap="checked",
        has_subjects=session.has_subjects,
        files=dict(files),
    )


def _released(session: Session) -> str:
    norms = ", norm layers once at the end" if session.has_local_tensors else ""
    is_scaffold = any(
        isinstance(stage.strategy, Scaffold)
        for stage in session.study.stages
        if not isinstance(stage, Personalise)
    )
    control = ", control variates (mean gradients)" if is_scaffold else ""
    personal = ", mean losses of personal models" if session.study.personalise else ""
    is_planned = session.plan.planning is not None
    counts = ", fingerprints (counts in fixed bins over training cases)" if is_planned else ""
    return (
        f"counts of cases{counts}, updates (local minus global weights) with their mean loss"
        f"{control}{norms}{personal}, and sums over validation and test cases; each is in the "
        "site's audit log"
    )


def _write_checkpoints(session: Session, judged: Sequence[Judged]) -> dict[str, Digest]:
    """Copies of the weights of every judged model, and of those that were pretrained."""
    weights = {
        _checkpoint(session, model.run): session.blobs(model.run).path(model.release)
        for model in judged
        if model.run is not None and model.release is not None
    }
    for held in session.store.checkpoints(FEDERATED, kind=CheckpointKind.PRETRAINED):
        weights[session.output.pretrained] = session.blobs(FEDERATED).path(held.digest)
    files: dict[str, Digest] = {}
    for target, source in weights.items():
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        files[str(target.relative_to(session.output.folder))] = digest_file(target)
    return files


def _checkpoint(session: Session, run: RunId) -> Path:
    return session.output.checkpoints / f"{run}.safetensors"


def _site(session: Session, site: SiteId) -> SiteResult:
    cases = session.cases[site]
    pretraining = trainable(cases.pretrain, session.study)
    return SiteResult(
        training_cases=len(cases.train),
        training_subjects=cases.subjects.training,
        pretraining_cases=len(pretraining),
        pretraining_subjects=len({case.subject for case in pretraining}),
        validation_cases=len(cases.validation),
        test_cases=len(cases.test),
        test_subjects=cases.subjects.test,
    )


def _stage(
    session: Session, rounds: Sequence[RoundRecord], index: int, judged: Sequence[Judged]
) -> StageResult:
    study = session.study
    stage = study.stages[index]
    began = min((record.started for record in rounds), default=None)
    is_personal = isinstance(stage, Personalise)
    select_by = PRETEXT_LOSS if isinstance(stage, Pretrain) else study.evaluation.select_by
    if isinstance(stage, Pretrain):
        best = best_record(
            closed_rounds([record for record in rounds if record.stage == index]),
            select_by=select_by,
        )
        best_round = best.index if best is not None else None
    else:
        model = model_names.PERSONALISED if is_personal else model_names.FEDERATED
        best_round = next((one.best_round for one in judged if one.name == model), None)
    return StageResult(
        name=stage.kind,
        kind=stage.task.kind if isinstance(stage, Pretrain) else study.task.kind,
        strategy=stage.method.kind if is_personal else stage.strategy.kind,
        rounds=[
            RoundResult(
                index=record.index,
                attempts=record.attempt,
                started_s=(record.started - began).total_seconds() if began else 0.0,
                seconds=record.seconds,
                sites={
                    site.site: SiteRound(
                        state=site.state.value,
                        code=site.code,
                        reason=site.title,
                        cases=site.cases,
                        steps=site.steps,
                        train_seconds=site.train_seconds,
                        bytes_up=site.bytes_up,
                        bytes_down=site.bytes_down,
                        loss=site.loss,
                    )
                    for site in record.sites
                },
                validation=_stats(record.metrics.get(ALL_SITES, {})),
                validation_by_site={
                    site: _stats(stats)
                    for site, stats in record.metrics.items()
                    if site != ALL_SITES
                },
                mu=RoundArguments.model_validate(dict(record.arguments)).mu,
            )
            for record in rounds
            if record.stage == index and record.state is RoundState.CLOSED
        ],
        select_by=select_by,
        best_round=best_round,
        release="best" if isinstance(stage, Pretrain) else study.evaluation.release,
    )


def _model(session: Session, model: Judged) -> ModelResult:
    run = model.run if model.release is not None else None
    path = _checkpoint(session, run) if run is not None else None
    return ModelResult(
        steps=model.steps,
        cases=model.cases,
        pretraining_cases=model.pretraining_cases,
        seconds=model.seconds,
        checkpoint=str(path.relative_to(session.output.folder)) if path else None,
        digest=digest_file(path) if path else None,
    )


def _evaluation(session: Session, sums: Mapping[SiteId, MetricSums]) -> EvaluationResult:
    everywhere = merge([sums[site] for site in sorted(sums)])
    metrics = session.study.evaluation.metrics
    return EvaluationResult(
        overall={metric: StatResult.of(everywhere.stat(metric)) for metric in metrics},
        by_site={
            site: {key: StatResult.of(part.stat(key)) for key in part.keys}
            for site, part in sorted(sums.items())
        },
        by_class={
            name: {metric: StatResult.of(everywhere.stat(f"{metric}/{name}")) for metric in metrics}
            for name in class_names(session.study.data)
        },
    )


def _differences(
    session: Session, federated: Mapping[SiteId, MetricSums], other: Mapping[SiteId, MetricSums]
) -> list[Difference]:
    ours = merge([federated[site] for site in sorted(federated)])
    theirs = merge([other[site] for site in sorted(other)])
    metrics = session.study.evaluation.metrics
    found: list[Difference] = []
    for key in metric_keys(metrics, class_names(session.study.data)):
        paired = difference(ours, theirs, key=key)
        if paired.value is not None:
            found.append(
                Difference(
                    metric=key,
                    value=paired.value,
                    low=paired.low,
                    high=paired.high,
                    n=paired.n,
                    other_n=paired.other_n,
                )
            )
    return found


def _stats(stats: Mapping[str, Stat]) -> dict[str, StatResult]:
    return {key: StatResult.of(stat) for key, stat in stats.items()}
