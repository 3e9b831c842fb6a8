"""Open-loop load with locust: one user is the whole stream of arrivals, its schedule drawn beforehand.

`tests/load/load.py` and `capacity.py` run it; locust's own command and web page do, too:

    LOCUST_SKIP_MONKEY_PATCH=1 locust -f tests/load/locustfile.py --rate 100 --users-from 1-943

Locust's users wait for their answers, so more of them would be a closed loop, and gRPC on patched threads
costs about twice the CPU. Here a thread of its own sends gRPC futures at their times, and locust's
loop hands what ended to locust's events. Locust's percentiles are rounded; those of the report are not.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

os.environ.setdefault("LOCUST_SKIP_MONKEY_PATCH", "1")  # must be said before locust is imported
sys.path.insert(0, str(Path(__file__).parent))

import gevent
import gevent.monkey
from arguments import add_arguments, audience, feedback, metrics_address, setting, slo, steps
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.exception import StopUser

from tools.load.calls import Calls
from tools.load.generator import Generator
from tools.load.report import Measurement, load_figures, write_report
from tools.load.schedule import Step, poisson
from tools.load.stages import StageWatch
from tools.load.visitors import Audience

if gevent.monkey.is_module_patched("threading"):
    sys.exit("locustfile.py: threads are patched; start locust with LOCUST_SKIP_MONKEY_PATCH=1")

TELL_EVERY = 0.02
"""Seconds between two looks for requests that ended: often, so that it never takes long."""
SWITCH_INTERVAL = 0.0005
"""Seconds after which Python's threads must let each other run, so that what is due is sent."""


class Run:
    """One schedule against one server, with a watch on its stages; `finish` gives the measurement."""

    def __init__(self, options: Namespace, wanted: list[Step], people: Audience, seed: int) -> None:
        schedule = poisson(wanted, seed)
        self._calls = Calls(
            options.address,
            timeout=options.timeout,
            deadline=options.deadline,
            feedback=feedback(options),
            seed=seed,
        )
        self._calls.expect(people.draw(len(schedule), self._calls.session, seed))
        self._watch = StageWatch(options.address, metrics=metrics_address(options)).__enter__()
        self.generator = Generator(
            self._calls, schedule, patience=options.patience, in_flight=options.in_flight
        )
        self._drain = options.timeout + 5
        self._cpu, self._begin = time.process_time(), time.perf_counter()
        self.failure: BaseException | None = None
        self.measurement: Measurement | None = None
        self.thread = threading.Thread(target=self._send, daemon=True)

    def _send(self) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            self.generator.run(self._drain)
        except BaseException as error:
            self.failure = error
        finally:
            sys.setswitchinterval(interval)

    def finish(self) -> Measurement:
        """What was measured; nothing more is sent. Raises what broke the generator."""
        if self.measurement is None:
            cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._begin
            self.generator.stop()
            self.thread.join()
            self._watch.__exit__(None, None, None)
            self._calls.close()
            if self.failure is not None:
                raise self.failure
            generator = self.generator
            self.measurement = Measurement(generator.recording, self._watch, generator.began, cpu, wall)
        return self.measurement


class Arrivals(User):
    """All arrivals of the run, as one locust user."""

    fixed_count = 1

    @task
    def arrive(self) -> None:
        run: Run = self.environment.run
        run.thread.start()
        while run.thread.is_alive():
            self._tell(run)
            gevent.sleep(TELL_EVERY)
        self._tell(run)
        self.environment.ended = True
        raise StopUser

    def on_stop(self) -> None:
        self.environment.run.generator.stop()

    def _tell(self, run: Run) -> None:
        """Hand every request that ended to locust."""
        seen = run.generator.recording.seen
        while seen:
            each = seen.popleft()
            self.environment.events.request.fire(
                request_type="gRPC",
                name=each.kind,
                response_time=each.milliseconds,
                response_length=0,
                exception=None if each.problem is None else RuntimeError(each.problem),
                context={},
            )


class UntilTheScheduleEnds(LoadTestShape):
    """One user, who is the stream of arrivals, until the last answer of the schedule."""

    def tick(self) -> tuple[int, float] | None:
        return None if getattr(self.runner.environment, "ended", False) else (1, 1.0)


@events.init_command_line_parser.add_listener
def _add(parser: Any) -> None:
    add_arguments(parser)


@events.test_start.add_listener
def _begin(environment: Environment, **_: object) -> None:
    environment.ended = False
    if getattr(environment, "run", None) is None:  # locust's own command
        options = environment.parsed_options
        environment.run = Run(options, steps(options), audience(options), options.seed)


@events.test_stop.add_listener
def _end(environment: Environment, **_: object) -> None:
    run: Run = environment.run
    options = environment.parsed_options
    if getattr(options, "writes_own_report", False):
        return
    environment.run = None
    figures = load_figures(setting(options), run.finish(), slo(options))
    _, page = write_report(figures, options.out)
    environment.process_exit_code = 1 if figures["held"] is False else 0
    print(f"report: {page}")


def measure(
    options: Namespace, wanted: list[Step], people: Audience, seed: int, show: Any = None
) -> Measurement:
    """Run the steps `wanted` under locust and wait for their end; `show` gets the generator meanwhile."""
    options.writes_own_report = True
    options.headless = False  # locust's shape asks; the end is ours
    environment = Environment(
        user_classes=[Arrivals],
        shape_class=UntilTheScheduleEnds(),
        events=events,
        parsed_options=options,
        reset_stats=False,
    )
    run = environment.run = Run(options, wanted, people, seed)
    environment.ended = False
    runner = environment.create_local_runner()
    try:
        runner.start_shape()
        while not environment.ended and run.failure is None:
            gevent.sleep(0.2)
            if show is not None:
                show(run.generator)
        return run.finish()
    finally:
        run.finish()
        environment.shape_class = None
        runner.quit()
