"""The package for the boxes, and the figures that they measured, told at the end."""

from __future__ import annotations

import pytest

from tests.box.package import Package, build

FIGURES = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = {}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, value in config.stash[FIGURES].items():
        terminalreporter.write_line(f"box: {name:<52}{value:>12}")


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> dict[str, str]:
    """What is measured in passing, by name."""
    return pytestconfig.stash[FIGURES]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """For this computer, of this checkout."""
    return build("amd64", tmp_path_factory.mktemp("package"))
