import pytest

from fedvol.config.sweep import parse_sweep
from fedvol.errors import ConfigFileError, SweepError

AXES = """
[axes.labels.few]
data.few_labels = { subjects = 1 }
[axes.labels.all]
[axes.rate.low]
[axes.rate.high]
stages.finetune.rounds = 2
"""
TARGET = 'target = { of = { labels = "all", rate = "low" } }'


def test_every_combination_the_last_axis_fastest() -> None:
    sweep = parse_sweep(f"version = 1\n{AXES}", where="sweep.toml")
    assert [tuple(one.values()) for one in sweep.variants()] == [
        ("few", "low"),
        ("few", "high"),
        ("all", "low"),
        ("all", "high"),
    ]
    variant = {"labels": "few", "rate": "high"}
    assert [*sweep.changes(variant)] == [
        {"data": {"few_labels": {"subjects": 1}}},
        {"stages": {"finetune": {"rounds": 2}}},
    ]


def test_the_baseline_has_its_values_and_those_of_the_variant() -> None:
    text = f'version = 1\nbaseline = {{ rate = "low" }}\n{AXES}'
    sweep = parse_sweep(text, where="sweep.toml")
    variant = {"labels": "few", "rate": "high"}
    assert sweep.baseline_of(variant) == {"labels": "few", "rate": "low"}
    assert sweep.baseline_of({"labels": "few", "rate": "low"}) is None
    assert parse_sweep(f"version = 1\n{AXES}", where="s").baseline_of(variant) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (AXES, "version"),
        (f"version = 2\n{AXES}", "version"),
        ("version = 1", "axes"),
        ("version = 1\naxes = {}", "axes"),
        ("version = 1\naxes.labels = {}", "axes.labels"),
        ("version = 1\naxes.'a b'.c = {}", "axes"),
        (f"version = 1\nseeds = []\n{AXES}", "seeds"),
        (f"version = 1\nseeds = [-1]\n{AXES}", "seeds"),
        (f"version = 1\nseeds = [1, 2, 1]\n{AXES}", "seeds[2]: 1 is listed twice"),
        (f"version = 1\nequal = 'steps'\n{AXES}", "equal"),
        (f"version = 1\nbaseline.label = 'all'\n{AXES}", "Did you mean labels?"),
        (f"version = 1\nbaseline.rate = 'lo'\n{AXES}", "Did you mean low?"),
        (f"version = 1\ntarget = {{ of = {{ rate = 'low' }} }}\n{AXES}", "the axis labels"),
        (f"version = 1\n{TARGET.replace('of', 'share = 1.5, of')}\n{AXES}", "target.share"),
        (f"version = 1\nbaselines = {{}}\n{AXES}", "baseline"),
    ],
)
def test_what_is_wrong_is_named(text: str, problem: str) -> None:
    with pytest.raises(SweepError) as raised:
        parse_sweep(text, where="sweep.toml")
    assert str(raised.value).startswith("FV-CONF-013 sweep.toml")
    assert problem in str(raised.value)


def test_no_toml() -> None:
    with pytest.raises(ConfigFileError, match="line 1"):
        parse_sweep("version = ", where="sweep.toml")
