"""Settings: a TOML file, over it the environment, over it systemd's credentials (decision 11).

``EDGE_ASD__MQTT__HOST=broker`` sets ``mqtt.host``; so does a credential file named ``mqtt__host``.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NestedSecretsSettingsSource, SettingsConfigDict, SettingsError

from edge_asd.alarm.alarm import Policy, Priority
from edge_asd.alarm.flood import Flood
from edge_asd.capture.opening import SourceSpec
from edge_asd.capture.pcm import Format
from edge_asd.deliver.command import ALLOWED
from edge_asd.deliver.message import NAME, Kind, Verb
from edge_asd.deliver.outbox import Limit
from edge_asd.deliver.publisher import Broker, Tls
from edge_asd.deliver.topic import Topics
from edge_asd.errors import ConfigError
from edge_asd.model.fetch import permitted
from edge_asd.model.shadow import CLIPS
from edge_asd.observe.web import Certificate
from edge_asd.signature import Trust, read_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic_core import ErrorDetails
    from pydantic_settings import PydanticBaseSettingsSource

    from edge_asd.engine import Engine

PREFIX = "EDGE_ASD__"
Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]


def node_name() -> str:
    """This computer's name, as far as it can stand in a topic."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "-", socket.gethostname().partition(".")[0]).strip("-") or "node"


SERVICE_STATE = Path("/var/lib/edge_asd")
"""what the unit's StateDirectory becomes"""


def state_folder() -> Path:
    """Where state is kept that was not told: as systemd says, as the service here does, or under the user's home."""
    if told := os.environ.get("STATE_DIRECTORY"):
        return Path(told.partition(":")[0])
    if os.access(SERVICE_STATE, os.R_OK | os.X_OK):
        return SERVICE_STATE
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "edge_asd"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TlsSettings(_Table):
    """``[mqtt.tls]``: an encrypted connection; the table alone switches it on."""

    ca_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _cert_and_key_belong_together(self) -> TlsSettings:
        if (self.cert is None) != (self.key is None):
            msg = "cert and key belong together: give both or none"
            raise ValueError(msg)
        return self


class MqttSettings(_Table):
    """``[mqtt]``: the broker; without the table nothing is published."""

    host: str = Field(min_length=1, pattern=r"^[^\s/]+$")
    port: int = Field(default=1883, ge=1, le=65_535)
    username: str | None = None
    password: SecretStr | None = None
    base: str = "edge_asd"
    discovery: str = "homeassistant"
    commands: frozenset[Verb] = ALLOWED
    tls: TlsSettings | None = None

    @field_validator("base", "discovery")
    @classmethod
    def _prefix_is_a_topic(cls, prefix: str, info: ValidationInfo) -> str:
        return Topics("node", prefix).base if prefix or info.field_name == "base" else ""

    def broker(self) -> Broker:
        """As the publisher wants it."""
        tls = Tls(**dict(self.tls)) if self.tls else None
        password = self.password.get_secret_value() if self.password else None
        return Broker(self.host, self.port, self.username, password, tls)


class MetricSettings(_Table):
    """``[metrics]``: where Prometheus may ask."""

    listen: str = "127.0.0.1:9464"
    cert: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None

    @field_validator("listen")
    @classmethod
    def _listen_is_an_address(cls, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if listen and not (host and re.fullmatch(r"[0-9]{1,5}", port) and int(port) <= 65_535):
            msg = "need HOST:PORT with a port up to 65535, or '' to switch metrics off"
            raise ValueError(msg)
        return listen

    @model_validator(mode="after")
    def _clients_are_asked_over_tls(self) -> MetricSettings:
        if (self.cert is None) != (self.key is None) or (self.client_ca and not self.cert):
            msg = "cert and key belong together, and client_ca needs both"
            raise ValueError(msg)
        return self

    def certificate(self) -> Certificate | None:
        """As the server wants it; None without encryption."""
        return Certificate(self.cert, self.key, self.client_ca) if self.cert and self.key else None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port; None when metrics are off."""
        host, _, port = self.listen.rpartition(":")
        return (host.strip("[]"), int(port)) if self.listen else None


class OutboxSettings(_Table):
    """``[outbox]``: how much may wait on disk while the broker is away."""

    event_mb: float = Field(default=64, gt=0, allow_inf_nan=False)
    score_mb: float = Field(default=64, gt=0, allow_inf_nan=False)
    score_days: float = Field(default=14, gt=0, allow_inf_nan=False)

    def limits(self) -> dict[Kind, Limit]:
        """As the store wants it; an event waits until its own space is used up."""
        return {
            Kind.EVENT: Limit(int(self.event_mb * 1e6)),
            Kind.SCORE: Limit(int(self.score_mb * 1e6), self.score_days * 86_400),
        }


class EvidenceSettings(_Table):
    """``[evidence]``: sound that is kept for people to listen to."""

    enabled: bool = False
    pre_roll_s: float = Field(default=20, ge=0, le=60)
    quota_mb: float = Field(default=100, gt=0, allow_inf_nan=False)
    free_mb: float = Field(default=200, ge=0, allow_inf_nan=False)


class ModelSettings(_Table):
    """``[models]``: how models are changed while the daemon runs."""

    allow: tuple[str, ...] = ()
    ca_file: Path | None = None
    clips: int = Field(default=CLIPS, ge=1)

    @field_validator("allow")
    @classmethod
    def _allow_names_folders(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for place in allow:
            if not (place.endswith("/") and permitted(place, [place])):
                msg = f"{place!r} is no folder of a server; need https://HOST/ or https://HOST/FOLDER/"
                raise ValueError(msg)
        return allow


class TrustSettings(_Table):
    """``[trust]``: whose bundles are used; the built-in one needs no other's word."""

    keys: tuple[Path, ...] = ()
    allow_unsigned: bool = False

    def trust(self) -> Trust:
        """With the keys read.

        Raises:
            ConfigError: a file holds no public key.
        """
        keys = (read_key(path.expanduser()) for path in self.keys)
        return Trust.of(keys, allow_unsigned=self.allow_unsigned)


class EngineSettings(_Table):
    """``[engine]``: what computes the networks."""

    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    threads: int = Field(default=0, ge=0, le=64)

    def engine(self, state: Path | None, extend: Callable[[float], None] = lambda _: None) -> Engine:
        """What opens bundles here; ``extend`` is told before what may take so many seconds."""
        from edge_asd.engine import Engine, cache_folder  # noqa: PLC0415 - who only reads settings needs no runtime

        return Engine(self.provider, self.threads, cache_folder(state), extend=extend)


class SourceSettings(_Table):
    """``[sources.NAME]``: where sound comes from."""

    input: str = Field(min_length=1)
    channel: int = Field(default=0, ge=0)
    loop: bool = False
    speed: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    fault: str | None = None
    fault_after_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    severity: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=0)
    format: Format | None = None
    rate: int | None = Field(default=None, gt=0)
    channels: int | None = Field(default=None, ge=1)
    floor_dbfs: float | None = Field(default=None, ge=-120, le=0)

    def spec(self) -> SourceSpec:
        """As a source is opened.

        Raises:
            ConfigError: nothing can be listened to like that.
        """
        return SourceSpec(**self.model_dump(exclude={"floor_dbfs"}) | {"channel": self.channel or None})


class AlarmSettings(_Table):
    """``[machines.NAME.alarm]``: when a run of clips is an alarm."""

    threshold: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    deadband: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    on_delay: int = Field(default=3, ge=1)
    off_delay: int = Field(default=6, ge=1)
    re_alarm: int = Field(default=0, ge=0)
    latch: bool = False
    priority: Priority = Priority.HIGH
    chatter_clips: int = Field(default=60, ge=0)
    cusum: bool | None = None

    def policy(self, threshold: float, *, knows_days: bool = False) -> Policy:
        """With the bundle's threshold where none is set here, and sums where days are known."""
        own = {
            "threshold": threshold if self.threshold is None else self.threshold,
            "cusum": knows_days if self.cusum is None else self.cusum,
        }
        return Policy(**self.model_dump() | own)


class MachineSettings(_Table):
    """``[machines.NAME]``: which source a machine is heard by, and what it is compared with."""

    source: Name
    bundle: str = Field(default="builtin", min_length=1)
    head: str | None = None
    alarm: AlarmSettings = AlarmSettings()


class Config(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    node: Name = Field(default_factory=node_name)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    state_dir: Path | None = Field(default_factory=state_folder)
    mqtt: MqttSettings | None = None
    outbox: OutboxSettings = OutboxSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    flood_limit: int = Field(default=10, ge=0)
    metrics: MetricSettings = MetricSettings()
    models: ModelSettings = ModelSettings()
    trust: TrustSettings = TrustSettings()
    engine: EngineSettings = EngineSettings()
    sources: dict[Name, SourceSettings] = Field(min_length=1)
    machines: dict[Name, MachineSettings] = Field(min_length=1)

    def flood(self) -> Flood:
        """How many alarms are told one by one; without a limit, all."""
        limit = self.flood_limit or 2**62
        return Flood(limit=limit, calm=limit // 2)

    def digest(self) -> str:
        """SHA-256 of the settings in force, passwords left out: nodes set up alike have the same."""
        return hashlib.sha256(self.model_dump_json(exclude={"node", "state_dir"}).encode()).hexdigest()

    @model_validator(mode="after")
    def _machines_have_ears(self) -> Config:
        for name, machine in self.machines.items():
            if machine.source not in self.sources:
                msg = f"machines.{name}.source is {machine.source!r}, but the sources are {', '.join(self.sources)}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _pipes_have_one_reader(self) -> Config:
        pipes = [source.input for source in self.sources.values() if source.input.startswith("pcm:")]
        if twice := sorted({pipe for pipe in pipes if pipes.count(pipe) > 1}):
            msg = f"{twice[0]} is the input of several sources, each of which would hear a part; give each its own pipe"
            raise ValueError(msg)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the sources know it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the environment of a service is systemd's to set
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Credentials win over the environment, which wins over the file."""
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            return env_settings, init_settings
        secrets = NestedSecretsSettingsSource(
            file_secret_settings, folder, "ok", secrets_prefix="", secrets_nested_delimiter="__"
        )
        return secrets, env_settings, init_settings


def load_config(path: Path) -> Config:
    """Read a file, and what the environment and the credentials say over it.

    Raises:
        ConfigError: with one line a mistake: where it is, what it is, what was allowed.
    """
    _check_environment()
    try:
        return Config(**tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).lower()
        msg = f"{path}: cannot be read: {reason}"
        raise ConfigError(msg) from error
    except tomllib.TOMLDecodeError as error:
        msg = f"{path}: is no toml: {str(error).lower()}"
        raise ConfigError(msg) from error
    except SettingsError as error:
        msg = f"the environment or a credential cannot be read: {error}"
        raise ConfigError(msg) from error
    except ValidationError as error:
        # the value of a password must not reach a log through the exception's own text
        raise ConfigError("\n".join(_complaints(path, error))) from None


def _check_environment() -> None:
    """pydantic-settings looks only for names it knows; a typo in the first level would go unnoticed."""
    for variable in os.environ:
        first = variable.upper().removeprefix(PREFIX).partition("__")[0].lower()
        if variable.upper().startswith(PREFIX) and first not in Config.model_fields:
            msg = f"environment variable {variable}: {_unknown([first])}"
            raise ConfigError(msg)


def _complaints(path: Path, error: ValidationError) -> Iterator[str]:
    environment = {variable.upper() for variable in os.environ}
    for detail in error.errors(include_url=False):
        place = [str(level) for level in detail["loc"] if level != "[key]"]
        variable = PREFIX + "__".join(place).upper()
        where = f"environment variable {variable}" if variable in environment else str(path)
        if detail["type"] == "extra_forbidden":
            yield f"{where}: {_unknown(place)}"
        else:
            yield f"{where}: {'.'.join(place) or 'settings'}: {_complaint(detail, place)}"


def _complaint(detail: ErrorDetails, place: list[str]) -> str:
    said = detail["msg"].removeprefix("Value error, ")
    said = said[:1].lower() + said[1:]
    if detail["type"] == "missing":
        return "is missing"
    if not place or "password" in place or isinstance(detail["input"], dict | BaseModel):
        return said
    return f"{said}, got {detail['input']!r}"


def _unknown(place: list[str]) -> str:
    known = list(_fields(Config, place[:-1]))
    close = get_close_matches(place[-1], known, n=1)
    advice = f"did you mean {close[0]}" if close else f"allowed: {', '.join(known)}"
    return f"{'.'.join(place)}: is unknown; {advice}"


def _fields(model: type[BaseModel], place: list[str]) -> Mapping[str, Any]:
    """The settings of the table at ``place``; names chosen by the operator lead nowhere and are passed over."""
    for level in place:
        if level not in model.model_fields:
            continue
        model = next(_models(model.model_fields[level].annotation))
    return model.model_fields


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
