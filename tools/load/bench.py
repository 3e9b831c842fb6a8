"""Settings on real servers: each is started with the tuned repository on free ports, measured and stopped."""

from __future__ import annotations

import time
from argparse import Namespace

import numpy as np
from rich.console import Console
from tritonclient.utils import InferenceServerException
from tritonrec_client.contract import RECOMMEND

from python_backend.release import Release
from tools.config.tuning import TUNED_MODELS, ModelTuning
from tools.load.calls import NoServerError
from tools.load.probing import Prober, Windows
from tools.load.slo import Slo, SloError
from tools.load.stages import machine_cpu
from tools.load.sweep import LIGHT, SHIPPED, Score, Setting
from tools.load.visitors import Audience, read_items, stored_users
from tools.releases.folder import find_release
from tools.serving.model_files import CONFIG, RepositoryError, read_config
from tools.serving.repository import write_served_repository
from tools.serving.server import LOCAL, TritonServer
from tools.serving.tuning import settings_of
from tools.serving.wheel import ServerUnavailableError

STARTING = 9.0
"""Seconds that starting and stopping a server takes, before there is experience."""
PROBES = 4
"""Of a search that starts near the answer, before there is experience."""


class Bench:
    """Measures one setting after the other, each on a server of its own, as `options` of tools/tune.py say.

    Raises NoReleaseError, RepositoryError, SloError, StoreUnavailable and ValueError.
    """

    def __init__(self, options: Namespace, console: Console) -> None:
        build = options.build.resolve()
        self.release = find_release(build, options.release)
        self.shipped = shipped_settings(self.release, options.profile)
        self._store = options.store or f"lmdb://{build / 'store'}"
        self._folder = build / "tuning"
        self._backends = build / "backends"
        self._profile = options.profile
        self._console = console
        self.items = read_items(self.release.artifacts / "items.tsv")
        slo = Slo.parse(options.slo)
        if strange := [limit.text for limit in slo.limits if limit.kind != RECOMMEND.name]:
            raise SloError(f"--slo: found {strange[0]}; only pages are asked for here")
        audience = Audience(stored_users(self._store), self.items)
        self._prober = Prober(audience, slo, Windows(probe=options.probe), options.seed)
        self._near = 0.0
        self.light_rate = 0.0
        self.seconds = [STARTING + PROBES * (options.probe + 1)]
        """How long each measurement took, beginning with a guess."""
        self.others: list[float] = []
        """The share of the machine that others used before each measurement."""

    def find_start(self, rate: float) -> bool:
        """Find out roughly what the shipped setting holds, from `rate` on; whether it holds any."""
        with self._server(SHIPPED) as server:
            self._near = self._prober.find(server.address, rate).held
        self.light_rate = LIGHT * self._near
        self._console.print(f"as shipped, roughly: {self._near:.0f}/s")
        return self._near > 0

    def look(self, setting: Setting) -> float:
        """The capacity of `setting`."""
        return self.measure(setting, light=False).capacity

    def measure(self, setting: Setting, *, light: bool = True) -> Score:
        """The score of `setting`; nothing where its server does not start or breaks, unless it is shipped."""
        begin = time.monotonic()
        self.others.append(_busy(0.5))
        with self._console.status(f"measuring {setting}"):
            try:
                with self._server(setting) as server:
                    capacity = self._prober.find_near(server.address, self._near).held
                    milliseconds = self._light(server) if light else np.nan
            except (ServerUnavailableError, NoServerError, InferenceServerException) as error:
                if setting == SHIPPED:
                    raise
                self._console.print(f"{setting}: {error}", markup=False)
                return Score(0.0)
        self._near = capacity or self._near
        self.seconds.append(time.monotonic() - begin)
        words = f", p50 {milliseconds:.2f} ms at {self.light_rate:.0f}/s" if light else ""
        self._console.print(f"{capacity:8.1f}/s{words}  {setting}", markup=False)
        return Score(capacity, milliseconds)

    def _light(self, server: TritonServer) -> float:
        return self._prober.median_ms(server.address, self.light_rate)

    def _server(self, setting: Setting) -> TritonServer:
        folder = self._folder / "served"
        write_served_repository(
            [self.release.path],
            self.release.name,
            folder,
            overrides={"store_url": self._store},
            tuning=setting.tuning,
        )
        return TritonServer(
            folder,
            log=self._folder / "triton.log",
            backends=self._backends,
            models=(RECOMMEND.name,),
            profile=self._profile,
        )


def shipped_settings(release: Release, profile: str) -> dict[str, ModelTuning]:
    """What the release says of each model that a page needs in `profile`, in the pipeline's order.

    Raises RepositoryError where the release has no such profile.
    """
    models = release.path / "models"
    ensemble = models / RECOMMEND.name / (CONFIG if profile == LOCAL else f"configs/{profile}.pbtxt")
    if not ensemble.is_file():
        raise RepositoryError(f"release {release.name} has no profile {profile}: {ensemble} is not there")
    names = [step.model_name for step in read_config(ensemble).ensemble_scheduling.step]
    return {name: settings_of(read_config(models / name / CONFIG)) for name in names if name in TUNED_MODELS}


def _busy(seconds: float) -> float:
    """The share of the machine's CPU that is used while nothing of ours runs."""
    busy, total = machine_cpu()
    time.sleep(seconds)
    busy_now, total_now = machine_cpu()
    return (busy_now - busy) / max(1e-9, total_now - total)
