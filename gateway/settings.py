"""Settings of the processes: one frozen value, checked at start, passed down, never a global.

Sources, first wins: command-line options, `SLUICEGATE_*` variables, files that `SLUICEGATE_*_FILE` name (Docker
secrets), `sluicegate.toml` (in the data folder, else in /etc/sluicegate, else the file that `SLUICEGATE_CONFIG` names),
defaults. What the console and `apply` manage (providers, routes, limits, …) lives in SQL, not here.
"""

import json
import os
import re
import tomllib
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from gateway.listening import split_address
from gateway.logs import LogFormat
from gateway.policy.roles import Role
from gateway.serve_settings import HANDED_DOWN

DEFAULT_DATA = Path("/var/lib/sluicegate")


def default_data_folder() -> Path:
    """Root and the service use /var/lib/sluicegate; anyone else a folder of their own."""
    if os.geteuid() == 0 or os.access(DEFAULT_DATA, os.W_OK):
        return DEFAULT_DATA
    return Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local/share")) / "sluicegate"


_RETAINED = re.compile(r"(\d+)\s*(h|d|w)")


def _retained(value: Any) -> Any:
    """`400d`, `12w`, `48h`; anything else is pydantic's (ISO 8601, which handing down writes)."""
    found = _RETAINED.fullmatch(value.strip()) if isinstance(value, str) else None
    return timedelta(hours=int(found[1]) * {"h": 1, "d": 24, "w": 168}[found[2]]) if found else value


def _a_day_at_least(value: timedelta) -> timedelta:
    if value < timedelta(days=1):
        raise ValueError("is shorter than a day; write e.g. 400d")
    return value


Retained = Annotated[timedelta, BeforeValidator(_retained), AfterValidator(_a_day_at_least)]


class Settings(BaseSettings):
    """Everything that `sluicegate serve` can be told. Each field is an option, a variable and a TOML key."""

    model_config = SettingsConfigDict(
        env_prefix="SLUICEGATE_", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    listen: str = "127.0.0.1:8080"
    """HOST:PORT of the data plane (and of console and REST API unless `admin_listen` is set)."""
    admin_listen: str | None = None
    """HOST:PORT for console and REST API alone; `listen` then serves the data plane only."""
    proxy_listen: str | None = None
    """HOST:PORT of the forward proxy, which serves CONNECT and absolute-form requests and nothing else."""
    data: Path = Field(default_factory=default_data_folder)
    """The folder that holds all state: database, keys, spool, sockets."""
    database: str | None = None
    """SQLAlchemy URL; default: SQLite in the data folder. `postgresql://…` is PostgreSQL 15 or newer."""
    workers: PositiveInt = Field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that serve; default: one a core."""
    drain: float = 15.0
    """Seconds that answers in progress may take to end after SIGTERM."""
    tls_cert: Path | None = None
    """PEM file of the certificate chain; with it `listen` speaks TLS."""
    tls_key: Path | None = None
    """PEM file of its key."""
    proxy_protocol: bool = False
    """Each connection begins with a PROXY preamble (v1 or v2) that says whose it is; others are refused."""
    tunnel_idle: PositiveFloat = 600.0
    """Seconds without a byte after which a tunnel of the forward proxy ends."""
    trusted_hops: int = 0
    """How many proxies in front of us may be believed in `X-Forwarded-For`."""
    console_url: str | None = None
    """How browsers reach the console, e.g. `https://gateway.example.com`: where a proxy in front tells us another host.
    Default: what each request says."""
    require_second_factor: tuple[Role, ...] = ()
    """Roles whose users may do nothing without a second factor but set one up."""
    team_names: Literal["free", "prefixed"] = "free"
    """What a team's people may call the apps, users and tokens that they make. Names are one space for all teams: with
    `free`, a refusal tells that somebody has the name; with `prefixed` each begins with the name of the team and a dot,
    and no refusal tells what others have."""
    zone: str | None = None
    """Where this host is: targets whose provider has this `zone` come first."""
    agent_socket: Path | None = None
    """Where the agent is found; default: `agent.sock` in the data folder."""
    probes: bool = True
    """Whether the agent loads its probes into the kernel."""
    cgroup: Path | None = None
    """The cgroup (v2) that the agent's probes are about, with all below it; None = the whole host."""
    egress_guard: Literal["off", "observe", "enforce"] = "observe"
    """What becomes of connections of the gateway's own processes to where nothing in its configuration leads: with
    `observe` an alert, with `enforce` they are refused in the kernel, too."""
    watched: tuple[str, ...] = ()
    """Processes of others that alerts are told of: executables as `/usr/bin/curl` or `*/curl`, `user:NAME`,
    `container:ID`."""
    tls_watched: tuple[str, ...] = ()
    """Processes, named likewise, whose calls within TLS are read to count them by model and tokens."""
    alert_webhook: str | None = None
    """URL that gets alerts by POST as JSON."""
    public_url: str | None = None
    """Where app teams reach the data plane and people the console, e.g. https://ai.example.com; default: the address
    that they came by."""
    notice_emails: tuple[str, ...] = ()
    """Addresses of the platform's people, who hear of requests for access and of budgets of the whole gateway."""
    notice_webhook: str | None = None
    """URL that gets the same by POST as JSON, signed where `notice_webhook_secret` is set."""
    notice_webhook_secret: SecretStr | None = None
    """`whsec_` and 24 to 64 bytes in base64 (standardwebhooks.com)."""
    smtp: str | None = None
    """Mail server as HOST:PORT; without one no mail is sent."""
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """How the mail server is spoken to."""
    smtp_user: str | None = None
    """Who signs in to the mail server; default: nobody."""
    smtp_password: SecretStr | None = None
    """Of `smtp_user`."""
    smtp_from: str = "sluicegate@localhost"
    """Who mail comes from."""
    max_body_bytes: PositiveInt = 100 * 1024 * 1024
    """Larger request bodies are answered 413."""
    max_upload_bytes: PositiveInt = 512 * 1024 * 1024
    """The same of files that are passed to a provider's account as they come (`/v1/files`, `/v1/uploads`)."""
    body_memory_bytes: PositiveInt = 1024 * 1024
    """What a request body may hold in memory; the rest waits in an unlinked temporary file in the data folder."""
    max_head_bytes: PositiveInt = 64 * 1024
    """Longer request heads are refused."""
    spool_segment_bytes: PositiveInt = 4 * 1024 * 1024
    """Size of one file of a worker's spool."""
    spool_max_bytes: PositiveInt = 1024 * 1024 * 1024
    """All that a worker may have unrecorded in SQL; beyond it requests are answered 503."""
    ledger_retention: Retained | None = None
    """How long ledger rows stay, e.g. `400d`; default: for ever. Usage by hour and limits do not depend on them."""
    usage_retention: Retained | None = None
    """How long sums by hour stay; default: for ever. At least as long as the rows."""
    bodies_max_bytes: PositiveInt = 2 * 1024 * 1024 * 1024
    """What recorded bodies of routes with `capture` may take of the disk: beyond it the oldest go."""
    sealing_key: SecretStr | None = None
    """Base64 of 32 bytes; default: the file `sealing.key` (0600) in the data folder."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    log_format: LogFormat = LogFormat.TEXT
    """`text` for people, `json` for collectors: an object a line, with constant messages and fields."""
    access_log: str = "off"
    """A line a request, from the ledger: `off`, `errors`, `all`, or a share such as `0.01`."""
    otel: bool = False
    """Send traces and metrics by OTLP/HTTP (the extra `otel`); where to, the standard `OTEL_*` variables say."""
    options_given: tuple[str, ...] = ("data",)
    """Names of the fields that the command line set: SIGHUP reads all others anew."""

    @field_validator("access_log", mode="before")
    @classmethod
    def _off_errors_all_or_share(cls, value: object) -> str:
        text = str(value).lower()
        text = {"true": "all", "1": "all", "1.0": "all", "false": "off", "0": "off", "0.0": "off"}.get(text, text)
        if text not in ("off", "errors", "all"):
            try:
                share = float(text)
            except ValueError:
                share = -1.0
            if not 0 < share <= 1:
                raise ValueError(f"{text!r} is none of off, errors, all, or a share such as 0.01")
        return text

    @field_validator("listen", "admin_listen", "proxy_listen")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("smtp")
    @classmethod
    def _mail_server(cls, value: str | None) -> str | None:
        if value is not None:
            split_address(value)
        return value

    @field_validator("console_url")
    @classmethod
    def _scheme_and_host(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"{value!r} is not a scheme and a host, such as https://gateway.example.com")
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @model_validator(mode="after")
    def _addresses_apart(self) -> "Settings":
        addresses = [each for each in (self.listen, self.admin_listen, self.proxy_listen) if each is not None]
        if len(set(addresses)) < len(addresses):
            raise ValueError("listen, admin_listen and proxy_listen are different addresses")
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key needs tls_cert beside it")
        return self

    @model_validator(mode="after")
    def _usage_outlives_rows(self) -> "Settings":
        if self.usage_retention is not None and (
            self.ledger_retention is None or self.usage_retention < self.ledger_retention
        ):
            raise ValueError(
                "usage_retention is shorter than ledger_retention: sums would go before the rows that they are made of"
            )
        return self

    @cached_property
    def database_url(self) -> str:
        """The SQLAlchemy URL with its driver named (`postgresql+psycopg`)."""
        if self.database is None:
            return f"sqlite:///{self.data / 'sluicegate.sqlite'}"
        for plain in ("postgresql://", "postgres://"):
            if self.database.startswith(plain):
                return "postgresql+psycopg://" + self.database.removeprefix(plain)
        return self.database

    @property
    def keeper_socket(self) -> Path:
        return self.data / "keeper.sock"

    @property
    def spool_folder(self) -> Path:
        return self.data / "spool"

    @property
    def bodies_folder(self) -> Path:
        return self.data / "bodies"

    @property
    def agent_socket_path(self) -> Path:
        return self.agent_socket or self.data / "agent.sock"

    def to_hand_down(self) -> dict[str, str]:
        """The variable by which a child process gets exactly these settings."""
        plain = self.model_dump(mode="json")
        for name in ("sealing_key", "smtp_password", "notice_webhook_secret"):
            secret = getattr(self, name)
            if secret is not None:
                plain[name] = secret.get_secret_value()
        return {HANDED_DOWN: json.dumps(plain)}

    @classmethod
    def handed_down(cls) -> "Settings":
        """The settings that the parent process gave us; what stands in variables and files is read if it gave none."""
        given = os.environ.get(HANDED_DOWN)
        return cls(**json.loads(given)) if given else cls()

    def read_again(self) -> "Settings":
        """The settings as variables and `sluicegate.toml` say now. What was given as an option stays.

        Raises ValueError (pydantic's ValidationError) when they are not valid.
        """
        return type(self)(**{name: getattr(self, name) for name in self.options_given})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        chosen: dict[str, Any] = {**env_settings(), **init_settings()}
        data = Path(chosen.get("data") or default_data_folder())
        files = [path for path in _files(data) if path.is_file()][:1]
        secrets = InitSettingsSource(settings_cls, _from_secret_files(settings_cls))
        return (init_settings, env_settings, secrets, TomlConfigSettingsSource(settings_cls, toml_file=files))

    def file(self) -> Path:
        """The `sluicegate.toml` that is read; where there is none, where one is looked for first."""
        candidates = _files(self.data)
        return next((path for path in candidates if path.is_file()), candidates[0])

    def file_values(self) -> dict[str, Any]:
        """What stands in it at this moment; nothing where it is not there, or not to be read."""
        try:
            return tomllib.loads(self.file().read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}


def _files(data: Path) -> list[Path]:
    """Where settings are looked for: the first that is there counts."""
    named = os.environ.get("SLUICEGATE_CONFIG")
    return [Path(named)] if named else [data / "sluicegate.toml", Path("/etc/sluicegate/sluicegate.toml")]


def _from_secret_files(settings_cls: type[BaseSettings]) -> dict[str, Any]:
    """`SLUICEGATE_DATABASE_FILE=/run/secrets/database`: the setting is what that file holds. Raises OSError."""
    named = {name: os.environ.get(f"SLUICEGATE_{name.upper()}_FILE") for name in settings_cls.model_fields}
    return {name: Path(file).read_text(encoding="utf-8").strip() for name, file in named.items() if file}
