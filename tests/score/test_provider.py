from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.score.backbone import installed
from edge_asd.score.provider import CPU, EXECUTION, MOST_THREADS, Provider, Trial, fastest, known, spare_threads

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = st.none() | st.floats(1e-6, 10)


def topology(folder: Path, *cores: str) -> Path:
    """As Linux tells it: each core by the list of its processors, such as ``0-1`` or ``0,4``."""
    for siblings in cores:
        first, dash, last = siblings.partition("-")
        processors = range(int(first), int(last) + 1) if dash else map(int, siblings.split(","))
        for processor in processors:
            place = folder / f"cpu{processor}" / "topology"
            place.mkdir(parents=True)
            (place / "thread_siblings_list").write_text(f"{siblings}\n")
    return folder


def test_our_names_stand_for_providers_that_onnx_runtime_has() -> None:
    assert set(EXECUTION.values()) <= set(onnxruntime.get_all_providers())


def test_of_what_is_installed_the_most_capable_comes_first_and_what_we_cannot_use_is_left_out() -> None:
    shuffled = ["CPUExecutionProvider", "AzureExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"]

    assert known(shuffled) == ["tensorrt", "cuda", "cpu"]
    assert installed()[-1] == "cpu"


def test_a_provider_hands_what_it_cannot_compute_to_those_behind_it_that_are_installed() -> None:
    options = {"trt_engine_cache_enable": "1"}
    tensorrt = Provider("tensorrt", options)

    assert tensorrt.chain(["tensorrt", "cuda", "cpu"]) == [
        ("TensorrtExecutionProvider", options),
        ("CUDAExecutionProvider", {}),
        ("CPUExecutionProvider", {}),
    ]
    assert tensorrt.chain(["tensorrt", "cpu"])[1:] == [("CPUExecutionProvider", {})]
    assert CPU.chain(["tensorrt", "cuda", "cpu"]) == [("CPUExecutionProvider", {})]


@given(st.lists(SECONDS, max_size=6))
def test_the_fastest_that_passed_wins_and_of_equals_the_first(seconds: list[float | None]) -> None:
    best = fastest([Trial(str(place), taken) for place, taken in enumerate(seconds)])
    passed = [taken for taken in seconds if taken is not None]

    assert best == (Trial(str(seconds.index(min(passed))), min(passed)) if passed else None)


@pytest.mark.parametrize(
    ("cores", "threads"),
    [
        (["0"], 1),
        (["0", "1"], 1),
        (["0-1"], 1),
        (["0", "1", "2", "3"], 3),
        (["0,4", "1,5", "2,6", "3,7"], 3),
        ([str(core) for core in range(64)], MOST_THREADS),
    ],
    ids=["one", "two", "one that is twofold", "a Pi", "four that are twofold", "a server"],
)
def test_a_graph_leaves_one_core_to_capture(tmp_path: Path, cores: list[str], threads: int) -> None:
    folder = topology(tmp_path, *cores)
    processors = {int(place.name.removeprefix("cpu")) for place in folder.iterdir()}

    assert spare_threads(processors, folder) == threads


def test_only_cores_that_we_may_run_on_count_and_one_that_says_nothing_is_its_own(tmp_path: Path) -> None:
    assert spare_threads({0, 1}, topology(tmp_path / "four", "0", "1", "2", "3")) == 1
    assert spare_threads({0, 1, 2}, tmp_path / "nothing") == 2
