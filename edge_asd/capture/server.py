"""A sound server gives a recording another microphone when its own goes. A machine's listener must not go along.

PulseAudio does not give the old one back, and through ALSA nobody can forbid it or is told. So the server is asked
where the recording comes from, as soon as it tells of any change and now and then.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOK_S = 1.0  # at most, between two questions
NOTICE_S = 0.5  # the server tells and answers within this, even where many want the processor
PATIENCE_S = 5.0  # for an answer


def guard(token: str) -> bool:
    """From now on, end this process as soon as its recording is given another source. Returns at once.

    Without ``pactl`` there is nobody to ask, nothing is done, and the answer is False.
    """
    if shutil.which("pactl") is None:
        return False
    threading.Thread(target=_stay, args=(token,), name="guard", daemon=True).start()
    return True


def source_of(pid: int) -> str | None:
    """The number of the source that a process records from; None when no server says that it does."""
    program = shutil.which("pactl")
    if program is None:
        return None
    try:
        told = subprocess.run(
            (program, "list", "source-outputs"),
            env=_plain(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return recorded(told.stdout, pid)


def recorded(told: str, pid: int) -> str | None:
    """The same, from what ``pactl list source-outputs`` prints."""
    for recording in told.split("Source Output #")[1:]:
        source = re.search(r"^\s*Source: (\d+)$", recording, re.MULTILINE)
        if source and f'application.process.id = "{pid}"' in recording:
            return source[1]
    return None


class News:
    """What the server tells of its own accord, through a ``pactl`` that ends when its words find nobody any more."""

    def __init__(self, command: Sequence[str] = ("pactl", "subscribe")) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_plain()
        )

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
        self._process.kill()
        self._process.communicate()


def _plain() -> dict[str, str]:
    """Our environment, without the language that pactl would translate what it says into."""
    return os.environ | {"LC_ALL": "C"}


def _stay(token: str) -> None:
    here, news = os.getpid(), News()
    home = source_of(here)
    while home is not None:
        news.wait(LOOK_S)
        if source_of(here) not in {home, None}:
            sys.stderr.write(f"{token} is gone: the sound server gave us another microphone in its place\n")
            sys.stderr.flush()
            os._exit(os.EX_UNAVAILABLE)  # the main thread is inside PortAudio and hears no exception
    news.close()
