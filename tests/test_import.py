"""What a device must load to listen."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = ("torch", "torchaudio", "scipy", "sklearn", "matplotlib", "train")


def test_the_daemon_loads_nothing_that_training_needs() -> None:
    question = f"import sys, edge_asd.daemon; print([name for name in {FORBIDDEN} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "[]"
