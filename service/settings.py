"""The service's configuration, `HETLM_*` environment variables; `python -m service.settings` prints their table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, FilePath, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from browsing.encoder import EncoderChoice
from service.secret_files import from_files
from service.security.addresses import engine_address, is_loopback, redis_address
from service.versions.split import split_of

EngineName = Literal["local", "vllm", "vllm-stacked", "vllm-server"]


class Settings(BaseSettings):
    """Read from the environment; the command line's flags come first."""

    model_config = SettingsConfigDict(env_prefix="HETLM_", frozen=True, extra="ignore", hide_input_in_errors=True)

    bundle: Path | None = Field(default=None, description="the bundle's directory (`hetlm serve BUNDLE` names it too)")
    bundle_version: str | None = Field(
        default=None,
        description="the version expected: any other bundle is refused; with `HETLM_BUNDLES` the one to start with, by "
        "its folder's name or its version",
    )
    bundles: Path | None = Field(
        default=None,
        description="instead of `HETLM_BUNDLE`, a folder of bundles, which take over from each other without a restart "
        "(docs/bundles.md)",
    )
    canary: str | None = Field(
        default=None,
        description="`VERSION=SHARE`: with `HETLM_BUNDLES`, a second bundle that answers a share (above 0, at most 1) "
        "of the users",
    )
    rollout_seconds: float = Field(
        default=900.0,
        gt=0,
        le=86_400,
        description="how long a new bundle may take to be verified, started and warm; then the rollout has failed",
    )
    engine: EngineName = Field(
        default="local",
        description="`local`: in this process; `vllm`: servers that the service starts, one per cluster; "
        "`vllm-stacked`: one for all clusters; `vllm-server`: running servers",
    )
    engine_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="for `vllm-server`: one address per cluster, in their order, separated by commas; several of one "
        "cluster (replicas) by `|`",
    )
    engine_api_key: SecretStr | None = Field(
        default=None, description="for `vllm-server`: the key that the servers ask for (`--api-key`)"
    )
    engine_deadline_ms: int = Field(
        default=5_000, ge=1, le=60_000, description="how long an engine may take where a request sets no `deadline_ms`"
    )
    encoder: EncoderChoice = Field(
        default="torch",
        description="how SBERT encodes sessions: `torch`: in float32; `int8`: in 8-bit integers, in little more than "
        "half the time, and a few visitors in a thousand are routed otherwise; `auto`: `int8` where the CPU has "
        "integer dot products. Vectors of both are kept apart in the cache. The other encoders are always in float32",
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads of encoder and `local` engine; by default one per core"
    )
    host: str = Field(default="127.0.0.1", description="address that the API listens on")
    port: int = Field(default=8080, ge=0, le=65_535, description="port of the API; 0 takes a free one")
    metrics_host: str = Field(default="127.0.0.1", description="address that `/metrics` listens on")
    metrics_port: int = Field(default=9464, ge=0, le=65_535, description="port of `/metrics`; 0 takes a free one")
    admin_host: str = Field(default="127.0.0.1", description="address that `/admin` listens on")
    admin_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="port of `/admin`; 0 takes a free one. By default 9465 where a key has the scope "
        "`admin`, else none",
    )
    api_keys_file: FilePath | None = Field(
        default=None,
        description="the API keys that `hetlm keys` writes; read again whenever it changes. Needed unless the API "
        "listens on a loopback address",
    )
    rate_per_second: float = Field(
        default=100.0,
        gt=0,
        le=100_000,
        description="predictions per second and API key, unless the file of keys says otherwise",
    )
    rate_burst: int = Field(default=200, ge=1, le=1_000_000, description="predictions that a key may ask for at once")
    redis_url: SecretStr | None = Field(
        default=None,
        description="`redis://`, `rediss://` or `unix://`: the embedding cache of several replicas; else in-process",
    )
    redis_ca_file: FilePath | None = Field(
        default=None, description="for `rediss://`: the certificates trusted, in PEM; by default the system's"
    )
    redis_timeout_ms: int = Field(default=100, ge=1, le=10_000, description="how long a call to Redis may take")
    redis_back_off_seconds: float = Field(
        default=1.0, ge=0, le=300, description="how long a dead Redis is left alone before it is tried again"
    )
    cache_secret: SecretStr | None = Field(
        default=None,
        description="keys the cache's entries, at least 16 characters, the same for all replicas; needed with Redis, "
        "random per process without",
    )
    cache_ttl_seconds: int = Field(default=86_400, ge=1, le=2_592_000, description="lifetime of a cached session")
    cache_max_entries: int = Field(
        default=100_000, ge=1, description="sessions in the in-process cache (about 1 kB each); the oldest go first"
    )
    batch_concurrency: int = Field(
        default=16, ge=1, le=256, description="items of one `/predict/batch`, and rows of a file, worked on at once"
    )
    max_in_flight: int = Field(
        default=256,
        ge=1,
        le=10_000,
        description="predictions under way at once; what comes on top is refused with 429 (items of a batch wait)",
    )
    batch_dir: Path | None = Field(
        default=None, description="where `/batches` keeps its jobs, for one service alone; without it there are none"
    )
    batch_input_dir: Path | None = Field(
        default=None, description="files in it can be scored by their names, without an upload"
    )
    batch_upload_limit_bytes: int = Field(
        default=1_073_741_824, ge=1_024, description="largest upload of `/batches`, and largest file scored by its name"
    )
    batch_max_rows: int = Field(default=10_000_000, ge=1, description="most rows of a scored file")
    batch_max_bytes: int = Field(default=17_179_869_184, ge=1_024, description="largest scored file, decompressed")
    batch_max_row_group_bytes: int = Field(
        default=1_073_741_824, ge=1_024, description="largest row group of a Parquet file, decompressed"
    )
    batch_max_unfinished: int = Field(
        default=20, ge=1, le=10_000, description="batches that one API key may have unfinished at once"
    )
    batch_chunk_rows: int = Field(
        default=1_000, ge=1, le=100_000, description="rows of a batch that a killed service may have to score again"
    )
    batch_patience_seconds: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="how long a batch's next row waits for a moment without `/predict` requests; then it runs anyway",
    )
    retention_hours: float = Field(
        default=72.0,
        gt=0,
        le=8_760,
        description="after so long, counted from its end, a batch is deleted; one that comes no further so long fails",
    )
    body_limit_bytes: int = Field(default=1_048_576, ge=1_024, description="largest body of `/predict`")
    batch_body_limit_bytes: int = Field(default=33_554_432, ge=1_024, description="largest body of `/predict/batch`")
    body_timeout_seconds: float = Field(default=10.0, gt=0, le=300, description="how long a body may take to arrive")
    probe_seconds: float = Field(
        default=5.0, gt=0, le=300, description="pause between two checks of the engines, which `/readyz` reports"
    )
    lame_duck_seconds: float = Field(
        default=5.0,
        ge=0,
        le=300,
        description="how long new requests are still taken after SIGTERM, while `/readyz` says no: as long as a load "
        "balancer needs to see it",
    )
    drain_seconds: int = Field(
        default=30, ge=0, le=600, description="how long requests under way may then take to finish"
    )
    drift_half_life_hours: float = Field(
        default=6.0,
        gt=0,
        le=8_760,
        description="after so long a request weighs half as much in the metrics that compare traffic with training",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level that is logged; `info` has a line per request, `debug` per probe too"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_files(cls, values: dict[str, object]) -> dict[str, object]:
        fields = {variable(field): field for field in secrets()}
        found = from_files(fields, os.environ)
        return {**{fields[name]: secret for name, secret in found.items()}, **values}

    @field_validator("engine_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(url.strip() for url in value.split(",") if url.strip()) if isinstance(value, str) else value

    @field_validator("engine_urls")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            for replica in url.split("|"):
                engine_address(replica.strip())
        return urls

    @field_validator("canary")
    @classmethod
    def _share(cls, canary: str | None) -> str | None:
        if canary is not None:
            split_of(canary)
        return canary

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            redis_address(url.get_secret_value())
        return url

    @field_validator("cache_secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and len(secret.get_secret_value().encode()) < 16:
            raise ValueError("needs at least 16 characters; `openssl rand -hex 32` makes one")
        return secret

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.redis_url is not None and self.cache_secret is None:
            raise ValueError(
                "HETLM_REDIS_URL needs HETLM_CACHE_SECRET, the same for all replicas: without it their keys would "
                "differ; `openssl rand -hex 32` makes one"
            )
        if self.api_keys_file is None:
            for field, host in (("host", self.host), ("admin_host", self.admin_host)):
                if not is_loopback(host):
                    flag = f"--{field.replace('_', '-')}"
                    raise ValueError(
                        f"{variable(field)} ({flag}): others can reach {host}, so that API keys are needed: "
                        "`hetlm keys new NAME --scope predict --file keys.json`, then HETLM_API_KEYS_FILE=keys.json "
                        "(--api-keys-file); or listen on 127.0.0.1"
                    )
        if self.redis_ca_file is not None and not self._redis_has_tls():
            raise ValueError("HETLM_REDIS_CA_FILE is for a rediss:// address in HETLM_REDIS_URL")
        if self.bundle is not None and self.bundles is not None:
            raise ValueError("HETLM_BUNDLE and HETLM_BUNDLES are both named: serve a bundle, or a folder of them")
        if self.canary is not None and self.bundles is None:
            raise ValueError("HETLM_CANARY (--canary) needs a folder with both bundles in HETLM_BUNDLES (--bundles)")
        if self.canary is not None and self.engine == "vllm-server":
            raise ValueError(
                "HETLM_CANARY (--canary) is not for the engine vllm-server: the servers at HETLM_ENGINE_URLS hold one "
                "bundle's predictors"
            )
        if self.engine == "vllm-server" and not self.engine_urls:
            raise ValueError("the engine vllm-server needs HETLM_ENGINE_URLS (--engine-url), one address per cluster")
        if self.engine != "vllm-server" and self.engine_urls:
            raise ValueError(f"HETLM_ENGINE_URLS (--engine-url) is for the engine vllm-server, not {self.engine}")
        return self

    def _redis_has_tls(self) -> bool:
        return self.redis_url is not None and self.redis_url.get_secret_value().startswith("rediss://")


def variable(field: str) -> str:
    """The environment variable of a field of `Settings`."""
    return f"HETLM_{field.upper()}"


def secrets() -> list[str]:
    """The fields of `Settings` that are secret, and may be in a file of their own."""
    return [name for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation)]


if __name__ == "__main__":
    from service.configuration import table

    print(table(), end="")
