"""A sound server gives a recording another microphone when its own goes. A machine's listener must not go along.

PulseAudio does so in silence and does not give the old one back; through ALSA nobody can forbid it. So it is asked now
and then where the recording comes from.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time

LOOK_S = 1.0  # between two questions; so long another microphone may be heard, which is shorter than an alarm takes
PATIENCE_S = 5.0  # for an answer


def guard(token: str) -> None:
    """From now on, end this process as soon as its recording is given another source. Returns at once.

    Without a server, or without its ``pactl``, there is nothing to ask and nothing is done.
    """
    threading.Thread(target=_stay, args=(token,), name="guard", daemon=True).start()


def source_of(pid: int) -> str | None:
    """The number of the source that a process records from; None when no server says that it does."""
    program = shutil.which("pactl")
    if program is None:
        return None
    try:
        told = subprocess.run(
            (program, "list", "source-outputs"),
            env=os.environ | {"LC_ALL": "C"},  # it translates what it says
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


def _stay(token: str) -> None:
    here = os.getpid()
    home = source_of(here)
    while home is not None:
        time.sleep(LOOK_S)
        if source_of(here) not in {home, None}:
            sys.stderr.write(f"{token} is gone: the sound server gave us another microphone in its place\n")
            sys.stderr.flush()
            os._exit(os.EX_UNAVAILABLE)  # the main thread is inside PortAudio and hears no exception
