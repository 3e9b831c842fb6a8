"""The settings of a pod: environment variables, from the cluster's ConfigMap and Secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tools.config.build import ConfigError

PREFIX = "TRITONREC_"

Port = Annotated[int, Field(ge=1, le=65535)]


class PodSettings(BaseModel):
    """What a pod that serves is told; each field is an environment variable, `PREFIX` before its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Annotated[str, Field(pattern=r"^(lmdb|redis|rediss)://.+")]
    """Where users' records lie; the password comes in a variable of its own."""
    profile: Literal["local", "staged", "gpu", "gpu_torch"] = "local"
    plans: Path = Path("/plans")
    """Where the profile gpu finds TensorRT's plans, which tools/make_plans.py made on this node."""
    gpu_metrics: bool = False
    """Whether Triton measures GPUs; without one it would complain."""
    grace_seconds: Annotated[float, Field(ge=8, le=3600)] = 120
    """The pod's terminationGracePeriodSeconds."""
    control_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9._~+/=-]{16,}$")]
    """What a caller must know who wants to change what is served, or what is traced and logged."""
    tls: Literal["off", "server", "mutual"] = "off"
    """Whether gRPC is encrypted, and whether clients show a certificate, too."""
    tls_name: Annotated[str, Field(min_length=1)] = "tritonrec"
    """A name that the server's certificate is for."""
    tls_dir: Path = Path("/etc/tritonrec/tls")
    """Where tls.crt, tls.key and ca.crt are."""
    trace_url: Annotated[str, Field(pattern=r"^(https?://.+)?$")] = ""
    """Where traces go, by OpenTelemetry's protocol over HTTP; nowhere by default."""
    trace_rate: Annotated[int, Field(ge=1)] = 1000
    """One of how many requests is traced."""
    rules: Path | None = None
    """The file of blocked and pinned items."""
    tuning: Path | None = None
    """The file that says how models are run, as tools/tune.py writes it; where it is not there, they are run
    as their release says."""
    host: str = "0.0.0.0"
    http_host: str = "127.0.0.1"
    """Where HTTP is answered: a connection of Triton's HTTP never comes of age, so that a pod which ends may
    lose what its clients are about to ask."""
    grpc_port: Port = 8001
    http_port: Port = 8000
    metrics_port: Port = 8002

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> PodSettings:
        """The settings in `environment`; an empty variable is none.

        Raises ConfigError, which lists every variable, what is allowed, and what was found unless that is
        secret.
        """
        values = {name: environment.get(PREFIX + name.upper()) for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in values.items() if value})
        except ValidationError as error:
            raise ConfigError([_describe(str(each["loc"][0]), each) for each in error.errors()]) from None


def _describe(name: str, error: Mapping[str, object]) -> str:
    variable = PREFIX + name.upper()
    if error["type"] == "missing":
        return f"{variable}: is missing and has no default"
    found = "what is not to be shown" if name == "control_key" else repr(error["input"])
    return f"{variable}: found {found}; allowed: {str(error['msg']).removeprefix('Input should be ')}"
