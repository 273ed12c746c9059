"""A Debian computer with a systemd of its own, in a folder; it has this computer's network and clock."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import until

BOOT_S = 60.0
AGAIN = 133
INSIDE = Path("/mnt")
"""where the box sees the folder that it shares with the test"""


@dataclass
class Box:
    """Off until it is booted."""

    root: Path
    shared: Path
    """a folder that it may read"""
    process: subprocess.Popen[bytes] | None = None
    leader: int = field(default=0, init=False)
    """its first process, as this computer counts"""

    @property
    def console(self) -> Path:
        """What it printed while it booted."""
        return self.root.with_name(f"{self.root.name}.console")

    def boot(self) -> float:
        """Switch it on; seconds until everything is up that starts by itself."""
        began = time.monotonic()
        command = ("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", f"--directory={self.root}")
        quiet = ("--console=read-only", "--resolv-conf=off", "--timezone=off", f"--bind-ro={self.shared}:{INSIDE}")
        with self.console.open("ab") as console:
            self.process = subprocess.Popen(
                [*command, *quiet], stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        until(self._up, BOOT_S, self._complaint)
        return time.monotonic() - began

    def reboot(self) -> None:
        """As an operator would; whoever runs nspawn is asked by its exit code to start it again."""
        self.call("systemctl", "reboot")
        code = self.process.wait(BOOT_S) if self.process else None
        if code != AGAIN:
            msg = f"exit code {code} instead of {AGAIN}: {self._complaint()}"
            raise AssertionError(msg)
        self.boot()

    def cut_power(self) -> None:
        """Nobody inside is told; what was not on disk is still written, as this computer runs on."""
        if self.process is None:
            return
        for leader in self._children():  # with it die all of the box
            os.kill(leader, signal.SIGKILL)
        self.process.terminate()
        self.process.wait()
        self.process, self.leader = None, 0

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run inside, whatever becomes of it."""
        inside = (
            "nsenter",
            "--all",
            f"--target={self.leader}",
            "--",
            "/usr/bin/env",
            "-i",
            f"PATH={os.defpath}:/usr/sbin",
        )
        return subprocess.run([*inside, *command], capture_output=True, text=True, timeout=BOOT_S, check=False)

    def do(self, *command: str) -> str:
        """Run inside; what it printed.

        Raises:
            AssertionError: it failed; with what it said.
        """
        done = self.call(*command)
        if done.returncode:
            msg = f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}{done.stderr}"
            raise AssertionError(msg)
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        """A file inside, with its folders."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def files(self) -> set[str]:
        """All paths it has on disk."""
        found = subprocess.run(["find", ".", "-xdev"], cwd=self.root, check=True, capture_output=True, text=True)
        return set(found.stdout.splitlines())

    def _up(self) -> bool:
        """Degraded counts, too: what failed is for the test to see."""
        if self.process is None or self.process.poll() is not None:
            raise AssertionError(self._complaint())
        children = self._children()
        if not children:
            return False
        self.leader = children[0]
        return self.call("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}

    def _children(self) -> list[int]:
        if self.process is None or self.process.poll() is not None:
            return []
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(child) for child in listed.read_text().split()]

    def _complaint(self) -> str:
        return f"the box does not boot; it said: {self.console.read_text(errors='replace')[-2000:]}"
