"""`site.toml`: what belongs to the hospital alone. Its policy wins over any study."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from fedvol.config.base import Section
from fedvol.config.data import Name

NetworkKind = Literal[
    "unet",
    "resenc_unet",
    "resenc_preset",
    "pct_net",
    "vnet",
    "dynunet",
    "segresnet",
    "residual_unet",
    "attention_unet",
    "basic_unet",
    "highresnet",
    "unetr",
    "swin_unetr",
    "densenet3d",
    "resnet3d",
]
PretextKind = Literal[
    "volume_fusion", "models_genesis", "mae", "mae_vit", "s3d", "voco", "rotation"
]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
"""In the order in which Python counts them."""
TimeOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Text = Annotated[str, Field(min_length=1, max_length=4000)]


class TrainingHours(Section):
    """When this site's machine may begin to train or judge; outside, requests are refused."""

    begin: TimeOfDay
    """Time of day from which on it may begin, `HH:MM` on this machine's clock."""
    end: TimeOfDay
    """Time of day until which it may begin; earlier than the key `begin`: on the next day."""
    days: Annotated[tuple[Weekday, ...], Field(min_length=1, max_length=7)] = WEEKDAYS
    """Days on which such a time begins."""


class SitePolicy(Section):
    """The site's own rules; a study can only be stricter."""

    min_group: Annotated[int, Field(ge=1)] = 10
    """Fewest subjects behind a statistic that leaves; smaller groups are suppressed."""
    min_cohort: Annotated[int, Field(ge=1)] = 10
    """Fewest training subjects with which the site takes part at all."""
    max_update_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest global L2 norm of an update that leaves, in weight units; absent: not bounded."""
    networks: Annotated[tuple[NetworkKind, ...], Field(min_length=1)] | None = None
    """Kinds of network the site trains; absent: every kind."""
    pretext_tasks: tuple[PretextKind, ...] | None = None
    """Pretext tasks for which the site lets all its training cases, labelled or not, be used; an
    empty list: no pretraining; absent: every task."""
    max_rounds: Annotated[int, Field(ge=1)] | None = None
    """Most rounds of a run's plan, all stages together; absent: not bounded."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Most local gradient steps of a run's plan, all rounds together; absent: not bounded."""
    max_bytes_up: Annotated[int, Field(ge=1)] | None = None
    """Most bytes of weights that a run's plan sends up from this site; absent: not bounded."""
    max_upload_mbit_s: Annotated[float, Field(ge=0.1)] | None = None
    """Most megabits a second at which weights go up, on average; read when the site starts.
    Absent: not bounded."""
    hours: TrainingHours | None = None
    """When the site may begin to train or judge; what was begun is finished after the hours, and
    leaves. Absent: at any time."""
    tell_progress: bool = True
    """Whether the server is told the present step of a training, every 5 s while it goes on."""

    @property
    def floor(self) -> int:
        """Fewest training subjects with which anything leaves: both floors hold."""
        return max(self.min_group, self.min_cohort)


class DataSource(Section):
    """A folder of volumes at this site."""

    name: Name
    """How consents and commands call it."""
    folder: Text
    """The folder; relative to the file that names it, or absolute. It is only read."""
    channels: Annotated[tuple[Name, ...], Field(min_length=1, max_length=16)]
    """What the image channels are, in the order of the files; a study asks for them by name."""
    labels: dict[Name, Annotated[int, Field(ge=1, le=254)]] | None = None
    """Class name to value in the label volumes; absent: not stated, and checked as a study has
    them."""


class Resources(Section):
    """What of this machine is used."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where networks run."""
    num_threads: Annotated[int, Field(ge=1, le=256)] = 8
    """Most CPU threads a study may ask for; one that asks for more is against the policy."""
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Processes that read and prepare volumes at one time."""


class LinkSettings(Section):
    """How the site speaks with the server."""

    heartbeat_s: Annotated[float, Field(ge=10, le=1800)] = 30.0
    """Seconds between two signs of life; after twice that the server counts the site as gone."""
    poll_s: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    """Seconds between two questions for work."""
    sync_s: Annotated[float, Field(ge=0.1, le=3600)] = 30.0
    """Seconds between two looks for a new roster or a new proposal."""
    proxy: Text | None = None
    """Proxy on the way to the server, `http://HOST:PORT`, without a password; absent: none."""
    proxy_credentials: Text | None = None
    """File with `user:password` of the proxy, readable by its owner alone."""


class AutoApprove(Section):
    """A rule by which proposals are approved without a person; off unless it is written down.

    A proposal that the policy forbids is never approved by it.
    """

    enabled: bool = False
    """Whether the rule holds."""
    kinds: Annotated[tuple[Literal["run", "fingerprint"], ...], Field(min_length=1)] = (
        "fingerprint",
    )
    """What it approves."""
    studies: tuple[Name, ...] = ()
    """Names of studies it approves; a proposal of another study waits for a person."""


class SiteConfig(Section):
    """A hospital's own file: who it is, what data it has, and what it allows."""

    version: Literal[1]
    """Version of this schema."""
    site: Name
    """The site's name in the consortium's roster."""
    server: Text
    """Where the server listens, `host:port`."""
    data: tuple[DataSource, ...] = ()
    """Folders of volumes; `fedvol data add` writes them."""
    policy: SitePolicy = SitePolicy()
    """What the site allows."""
    resources: Resources = Resources()
    """What of the machine is used."""
    link: LinkSettings = LinkSettings()
    """How it speaks with the server."""
    auto_approve: AutoApprove = AutoApprove()
    """A rule for proposals, where there is one."""


SIMULATION_POLICY = SitePolicy(min_group=1, min_cohort=1)
"""No suppression: in a simulation every case is the researcher's own. Reports say so."""
