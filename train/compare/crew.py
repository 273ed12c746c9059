"""Who does many separate jobs: processes of this machine, or a Ray cluster.

A job is whatever can be pickled, work a function of a module that says what went wrong, in one line, or nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from edge_asd.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnContext, SpawnProcess

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
TICK_S = 0.5
"""how often a crew lets others look"""
FAREWELL_S = 20
"""how long jobs on a cluster may take to stop"""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # uv's hook would upload the checkout with all that lies in it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a job without a GPU sees none
}


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


# Here -----------------------------------------------------------------------------------------------------------------


class Hand(NamedTuple):
    """A process at work on a job."""

    process: SpawnProcess
    answer: Connection
    job: int


def locally(
    work: Callable[[T], str], jobs: Sequence[T], workers: int, tick: Callable[[], None]
) -> Generator[tuple[T, str]]:
    """Jobs as they end, each with its error or nothing; every job has a process of its own, with its share of cores.

    A process that is killed is one failed job. Closing the iterator ends those that work, as Ctrl-C would.
    """
    context, threads = multiprocessing.get_context("spawn"), max(1, cores() // workers)
    waiting, busy = deque(range(len(jobs))), list[Hand]()
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                busy.append(_begun(context, work, jobs[waiting[0]], waiting.popleft(), threads))
            ready = connection.wait([hand.answer for hand in busy], TICK_S)
            for hand in [hand for hand in busy if hand.answer in ready]:
                busy.remove(hand)
                yield jobs[hand.job], _answer(hand)
            tick()
    finally:
        for hand in busy:
            hand.process.terminate()
        for hand in busy:
            hand.process.join()


def _begun(context: SpawnContext, work: Callable[[T], str], job: T, number: int, threads: int) -> Hand:
    """The child inherits that interrupts wait, until it ignores them: Ctrl-C is for us to act on."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(work, job, threads, theirs), daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()  # so that its end is the end of the pipe
    return Hand(process, ours, number)


def _child(work: Callable[[T], str], job: T, threads: int, answer: Connection) -> None:
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - a child's alone

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unfinished files are put away
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # torch, which is loaded later
    try:
        with threadpool_limits(threads):  # what is loaded already
            answer.send(work(job))
    except KeyboardInterrupt:
        sys.exit(130)


def _end_with_parent() -> None:
    """A parent that was killed tells nobody."""
    if parent := multiprocessing.parent_process():
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _answer(hand: Hand) -> str:
    with hand.answer:
        try:
            said = str(hand.answer.recv())
        except EOFError:
            hand.process.join()
            said = f"its process ended with status {hand.process.exitcode}; -9 is most often too little memory"
    hand.process.join()
    return said


# On a cluster ---------------------------------------------------------------------------------------------------------


def on_ray(
    work: Callable[[T], str],
    jobs: Sequence[T],
    address: str,
    tick: Callable[[], None],
    *,
    workers: int | None = None,
    gpus: float = 0.0,
) -> Generator[tuple[T, str]]:
    """The same as tasks of a Ray cluster, a core each, and so much of a GPU where the cluster has some.

    A task whose node is lost is begun again, and goes on from what lies on the disk.

    Args:
        work: as for :func:`locally`.
        jobs: the same; their files lie where all nodes find them.
        address: as :func:`ray.init` takes it; ``local`` starts a cluster on this machine for as long as it is needed.
        tick: called now and then.
        workers: cores of a ``local`` cluster; all when None.
        gpus: share of a GPU for each task.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
    """
    with _cluster(address, workers) as ray:
        share = gpus if ray.cluster_resources().get("GPU") else 0.0
        task = ray.remote(num_cpus=1, num_gpus=share, max_calls=1)(work)  # a process each, as here
        waiting = {task.remote(job): job for job in jobs}
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting), num_returns=1, timeout=TICK_S)
                for one in ready:
                    yield waiting.pop(one), _result(ray, one)
                tick()
        finally:
            for one in waiting:
                ray.cancel(one)
            if waiting:
                ray.wait(list(waiting), num_returns=len(waiting), timeout=FAREWELL_S)


@contextmanager
def _cluster(address: str, workers: int | None) -> Iterator[Any]:
    own: dict[str, Any] = {}
    if address == "local":
        # it listens on every network of this machine, and whoever it lets in may run what he likes
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_hex(32)}
        own = {"include_dashboard": False, "num_cpus": workers or cores()}
    ray = _ray()
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    try:
        ray.init(
            address,
            runtime_env={"env_vars": {"PYTHONPATH": paths}},
            logging_level="error",
            log_to_driver=False,
            **own,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        msg = f"--ray {address}: no cluster ({reason}); start one with: ray start --head, or use --ray local; "
        msg += "one that asks for a token, as Ray's do by default, wants RAY_AUTH_MODE=token here too"
        raise ConfigError(msg) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _ray() -> Any:  # noqa: ANN401 - a module that need not be there
    os.environ |= {name: os.environ.get(name, value) for name, value in QUIET.items()}
    try:
        import ray  # noqa: PLC0415 - see above
    except ImportError as error:
        msg = "--ray needs Ray, which is not installed; install it with: uv sync --group cluster"
        raise ConfigError(msg) from error
    return ray


def _result(ray: Any, one: Any) -> str:  # noqa: ANN401 - Ray's
    try:
        return str(ray.get(one))
    except ray.exceptions.RayError as error:
        return " ".join(str(error).split())
