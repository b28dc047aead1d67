"""A study that pretrains, over real processes: the weights of one process."""

import json
from pathlib import Path

import pytest
from network_study import (
    audit_of,
    expecting,
    networked,
    require_same,
    require_same_pretrained,
)
from pretraining import pretrained_text

from fedvol.config.loading import parse_open_study


def test_pretraining_over_the_network(
    tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    study = parse_open_study(pretrained_text(), where="tiny.toml")
    with (
        expecting(study, data=tiny_data, folder=tmp_path_factory.mktemp("expected")) as expected,
        networked(
            expected.session, data=tiny_data, folder=tmp_path_factory.mktemp("network")
        ) as network,
    ):
        network.begin("pretrained")
        require_same(expected, network, "pretrained", network.finish())
        require_same_pretrained(expected, network, "pretrained")
        for site in expected.session.sites:
            lines = audit_of(network, site).read_text().splitlines()
            events = [json.loads(line)["event"] for line in lines]
            asked = [e["action"] for e in events if e["kind"] == "received"]
            assert asked.count("train.pretrain") == 2
