"""The one app bundle: no code in it, the same everywhere, and Flower takes it."""

import io
import zipfile

from flwr.common.config import get_fab_config

from fedvol.transport.network.bundle import thin_bundle


def test_it_is_the_same_on_every_machine() -> None:
    # Sites and server of one version must agree; a change here is a change of the protocol.
    assert (
        thin_bundle().digest == "a17c31c675f2daf42ce747900ba336366a982fe908631b60db253bac0638ae53"
    )


def test_it_holds_no_code() -> None:
    with zipfile.ZipFile(io.BytesIO(thin_bundle().content)) as file:
        assert file.namelist() == ["LICENSE", "pyproject.toml"]
        assert file.testzip() is None


def test_flower_takes_it() -> None:
    config = get_fab_config(thin_bundle().content)
    assert config["tool"]["flwr"]["app"]["publisher"] == "fedvol"
