"""A sound server gives a recording another microphone when its own goes. A machine's listener must not go along.

PulseAudio does not give the old one back, and through ALSA nobody can forbid it or is told. So the server is asked
where the recording comes from, as soon as it tells of any change and now and then.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOOK_S = 1.0  # at most, between two questions
SELDOM_S = 60.0  # the same, where nobody has ever answered
NOTICE_S = 0.5  # the server tells and answers within this, even where many want the processor
PATIENCE_S = 5.0  # for an answer


@dataclass(frozen=True)
class Guard:
    """Watches that a recording stays where it began."""

    before: frozenset[str]
    """sources that there were when it began, or earlier"""
    source: Callable[[], str | None]
    """the number of its source; None when nobody says that it has one"""
    sources: Callable[[], frozenset[str] | None]
    """those that there are now; None when nobody says"""
    wait: Callable[[float], None]
    """so many seconds at most, less when something has changed"""

    def stay(self) -> None:
        """Return once the recording has, or may have, another source than it began with."""
        home, pause = self.source(), LOOK_S
        while home is None:  # it comes through no server, or through one that has no time to say so
            self.wait(pause)
            home, pause = self.source(), min(2 * pause, SELDOM_S)
        if self._one_went():  # before the first answer, and perhaps it was ours
            return
        while self.source() in {home, None}:
            self.wait(LOOK_S)

    def _one_went(self) -> bool:
        while (now := self.sources()) is None:
            self.wait(LOOK_S)
        return bool(self.before - now)


def guard(token: str, before: frozenset[str]) -> bool:
    """From now on, end this process as soon as its recording is given another source. Returns at once.

    Without ``pactl`` there is nobody to ask, nothing is done, and the answer is False.

    Args:
        token: what is recorded from, to name it.
        before: ``sources()`` before the recording was begun.
    """
    if shutil.which("pactl") is None:
        return False
    threading.Thread(target=_stay, args=(token, before), name="guard", daemon=True).start()
    return True


def sources() -> frozenset[str] | None:
    """The numbers of all sources there are; None when no server says."""
    told = _told("short", "sources")
    return None if told is None else frozenset(line.partition("\t")[0] for line in told.splitlines())


def source_of(pid: int) -> str | None:
    """The number of the source that a process records from; None when no server says that it does."""
    told = _told("source-outputs")
    return None if told is None else recorded(told, pid)


def _told(*what: str) -> str | None:
    """What the server lists; None when there is none, or it does not answer."""
    program = shutil.which("pactl")
    if program is None:
        return None
    try:
        told = subprocess.run(
            (program, "list", *what), env=_plain(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if told.returncode else told.stdout


def recorded(told: str, pid: int) -> str | None:
    """The same, from what ``pactl list source-outputs`` prints."""
    for recording in told.split("Source Output #")[1:]:
        source = re.search(r"^\s*Source: (\d+)$", recording, re.MULTILINE)
        if source and f'application.process.id = "{pid}"' in recording:
            return source[1]
    return None


class News:
    """What the server tells of its own accord, through a ``pactl`` that ends when this process does.

    It would not by itself: a server has no more than 64 places for those who listen to it.
    """

    def __init__(self, command: Sequence[str] = ("pactl", "subscribe")) -> None:
        its, self._ours = os.pipe()  # the kernel closes our end
        self._process = subprocess.Popen(
            command, stdin=its, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_plain()
        )
        end_when_closed(its, self._process.pid)
        os.close(its)

    def wait(self, longest: float) -> None:
        """Until something about a recording has changed; so many seconds at most, always if nobody tells."""
        told, end = self._process.stdout, time.monotonic() + longest
        while told and (rest := end - time.monotonic()) > 0:
            if not select.select([told], [], [], rest)[0]:
                return
            said = os.read(told.fileno(), 65_536)
            if b"source-output" in said:
                return
            if not said:
                time.sleep(max(end - time.monotonic(), 0))

    def close(self) -> None:
        """Let it end."""
        os.close(self._ours)
        self._process.communicate()


def end_when_closed(pipe: int, pid: int) -> None:
    """Let a process die when its pipe's other end closes, even inside a C loop: SIGIO's default is to terminate."""
    fcntl.fcntl(pipe, fcntl.F_SETOWN, pid)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # it closed before we asked
        os.kill(pid, signal.SIGIO)


def _plain() -> dict[str, str]:
    """Our environment, without the language that pactl would translate what it says into."""
    return os.environ | {"LC_ALL": "C"}


def _stay(token: str, before: frozenset[str]) -> None:
    Guard(before, partial(source_of, os.getpid()), sources, News().wait).stay()
    sys.stderr.write(f"{token} is gone: the sound server gave us another microphone in its place\n")
    sys.stderr.flush()
    os._exit(os.EX_UNAVAILABLE)  # the main thread is inside PortAudio and hears no exception
