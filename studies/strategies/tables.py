"""The design and the figures as Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from studies.strategies.budget import Budget
from studies.strategies.contenders import CONTENDERS, FEDAVG, POOLED, POOLED_LABEL
from studies.strategies.pilot import validation
from studies.strategies.running import Run
from studies.strategies.scores import Score, Spread, read_score
from studies.strategies.settings import SETTINGS, Setting

Scores = Mapping[int, Score]
"""By seed."""


def design(*, budget: Budget, seeds: Sequence[int]) -> str:
    """What is compared on what, in words and two tables."""
    words = (
        f"Seeds {_and(map(str, seeds))}: of weights and draws, and of the test cases too. "
        f"{budget.rounds} rounds of {budget.steps_per_round} steps at each of four sites, "
        f"{budget.steps * 4:,} gradient steps a run, for every row; where models become "
        f"personal, {budget.personal_rounds} of the {budget.rounds} rounds are for that."
    )
    if budget.cases is not None:
        words += (
            f" Generated hospitals have at most {budget.cases} training cases: this only shows "
            "that every run ends, and no figure means anything."
        )
    lines = [
        words,
        "",
        "| setting | what differs between the sites |",
        "|---|---|",
        *(f"| {setting.title} | {setting.what} |" for setting in SETTINGS),
        "",
        "| row | settings, chosen beforehand |",
        "|---|---|",
        *(f"| {contender.label} | {contender.why} |" for contender in CONTENDERS),
        f"| {POOLED_LABEL} | reference: all steps one after another on everybody's cases |",
    ]
    return "\n".join(lines)


def figures(runs: Sequence[Run], *, settings: Sequence[Setting]) -> str:
    """Tables of what is finished, one pair a setting."""
    blocks = [block for setting in settings for block in _setting(setting, runs)]
    return "\n".join(blocks).strip()


def pilot_table(runs: Sequence[Run]) -> str:
    """Validation Dice of every candidate on every setting of the pilot."""
    settings = list(dict.fromkeys(run.setting for run in runs))
    titles = " | ".join(setting.title for setting in settings)
    lines = [f"| validation Dice | {titles} | mean |", "|---|" + "---|" * (len(settings) + 1)]
    for contender in dict.fromkeys(run.contender for run in runs):
        cells: list[str] = []
        for setting in settings:
            found = _scores(
                runs, setting=setting.name, contender=contender.name, model=contender.model
            )
            cells.append(Spread.of([score.validation for score in found.values()]).plain())
        mean = validation(contender.name, runs)
        cells.append(Spread.of([] if mean is None else [mean]).plain())
        lines.append(f"| {contender.label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _setting(setting: Setting, runs: Sequence[Run]) -> Iterator[str]:
    rows = dict(_rows(setting, runs))
    reference = rows.get(_label(FEDAVG), {})
    yield f"### {setting.title}\n"
    if not rows:
        yield "Not run yet.\n"
        return
    yield "| | Dice, mean of sites | minus FedAvg | worst site | minus FedAvg | seeds | steps |"
    yield "|---|---|---|---|---|---|---|"
    for label, scores in rows.items():
        paired = [seed for seed in scores if seed in reference]
        cells = [label]
        for field in ("mean", "worst"):
            mine = Spread.of([getattr(scores[seed], field) for seed in scores])
            gain = Spread.of([getattr(scores[seed], field) for seed in paired]).minus(
                Spread.of([getattr(reference[seed], field) for seed in paired])
            )
            cells += [mine.plain(), "" if label == _label(FEDAVG) else gain.signed()]
        steps = sorted({score.steps for score in scores.values()})
        cells += [str(len(scores)), _and(f"{number:,}" for number in steps)]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield f"| Dice by class, all sites' test cases | {' | '.join(setting.classes)} |"
    yield "|---|" + "---|" * len(setting.classes)
    for label, scores in rows.items():
        each = (
            Spread.of([one.classes[name] for one in scores.values() if name in one.classes])
            for name in setting.classes
        )
        yield f"| {label} | {' | '.join(spread.plain() for spread in each)} |"
    yield ""


def _rows(setting: Setting, runs: Sequence[Run]) -> Iterator[tuple[str, Scores]]:
    for contender in CONTENDERS:
        found = _scores(runs, setting=setting.name, contender=contender.name, model=contender.model)
        if found:
            yield contender.label, found
    pooled = _scores(runs, setting=setting.name, contender=FEDAVG, model=POOLED)
    if pooled:
        yield POOLED_LABEL, pooled


def _scores(runs: Sequence[Run], *, setting: str, contender: str, model: str) -> dict[int, Score]:
    return {
        run.seed: read_score(run.out, model=model)
        for run in runs
        if run.setting.name == setting and run.contender.name == contender and run.is_finished
    }


def _label(name: str) -> str:
    (found,) = (contender.label for contender in CONTENDERS if contender.name == name)
    return found


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
