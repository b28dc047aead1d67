"""How sites are shared out among processes and GPUs, and how a failure crosses between them."""

import pytest

from fedvol.errors import AuditError, CaseStoreError, DiskFullError, EngineError, SiteFailedError
from fedvol.simulation.engines import default_workers, usable_cpus
from fedvol.simulation.failures import describe_failure, failure_of
from fedvol.simulation.sites_app import worker_device
from fedvol.transport import RayResources, RayWorkers, share_resources
from fedvol.types import SiteId

SITE = SiteId("a")


def test_workers_take_the_gpus_in_turn() -> None:
    devices = [str(worker_device(n, device_type="cuda", num_gpus=2)) for n in range(5)]
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    assert str(worker_device(3, device_type="cpu", num_gpus=0)) == "cpu"


@pytest.mark.parametrize(
    ("sites", "threads", "cpus", "gpus", "workers"),
    [
        (3, 1, 2, 0, 1),
        (64, 2, 2, 0, 1),
        (3, 2, 16, 0, 3),
        (64, 2, 16, 0, 8),
        (64, 16, 8, 0, 1),
        (64, 2, 2, 4, 4),
        (3, 2, 64, 8, 3),
    ],
)
def test_default_number_of_workers(
    sites: int, threads: int, cpus: int, gpus: int, workers: int
) -> None:
    found = default_workers(num_sites=sites, num_threads=threads, num_cpus=cpus, num_gpus=gpus)
    assert found == workers


@pytest.mark.parametrize("workers", range(1, 9))
@pytest.mark.parametrize("gpus", range(5))
def test_every_actor_finds_room(workers: int, gpus: int) -> None:
    """An actor lies on one GPU alone, so what does not fit there would wait for ever."""
    shares = share_resources(workers, num_gpus=gpus)
    assert shares.num_cpus == workers
    if gpus:
        per_gpu = int(1 / shares.actor_gpus + 1e-9)
        assert per_gpu * gpus >= workers
        assert (per_gpu - 1) * gpus < workers  # no smaller share than need be
    else:
        assert shares == RayResources(num_cpus=workers, num_gpus=0, actor_cpus=1, actor_gpus=0)


def test_at_least_one_cpu() -> None:
    assert usable_cpus() >= 1


def test_a_named_failure_crosses_as_what_it_is() -> None:
    raised = CaseStoreError("case 7", "is damaged", "Delete it.")
    found = failure_of(SITE, describe_failure(raised))
    assert type(found) is CaseStoreError
    assert str(found) == str(raised)


def test_a_log_on_a_full_disk_crosses_as_a_full_disk() -> None:
    raised = AuditError("audit.jsonl", "cannot be written", "Mend it.")
    raised.__cause__ = OSError(28, "No space left on device")
    assert type(failure_of(SITE, describe_failure(raised))) is DiskFullError


def test_any_other_failure_names_its_place_and_keeps_its_trace() -> None:
    try:
        raise MemoryError("of the training")
    except MemoryError as error:
        text = describe_failure(error)
    found = failure_of(SITE, text)
    assert type(found) is SiteFailedError
    assert "site a: MemoryError: of the training (test_engines.py:" in str(found)
    assert "--resume" in found.fix
    assert "Traceback" in found.__notes__[0]


def test_words_of_a_worker_that_is_gone() -> None:
    assert "site a: its process ended with status 3" in str(
        failure_of(SITE, "its process ended with status 3")
    )


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedvol.transport.ray_workers.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"pip install .*sim") as caught:
        RayWorkers(lambda: pytest.fail("opened"), resources=share_resources(1, num_gpus=0))
    assert caught.value.exit_status == 2
