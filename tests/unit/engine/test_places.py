"""Where engines go, on clusters of every shape."""

from __future__ import annotations

from typing import Any

import pytest

from fpt_ray.engine.places import Kind, Place, demand, find_places, fitted, vacant


def machine(name: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": resources}


GONE = machine("gone", alive=False, CPU=99.0, GPU=9.0)


@pytest.mark.parametrize(
    ("kind", "streams", "nodes", "expected"),
    [
        ("cpu", False, [machine("a", CPU=8.0), GONE], [Place("a", 8.0, 0, 8)]),
        ("cpu", True, [machine("a", CPU=8.0), machine("b", CPU=1.0)], [Place("a", 7.0, 0, 7)]),
        ("cpu", False, [machine("a", GPU=1.0)], []),
        ("cuda", False, [machine("a", CPU=8.0, GPU=4.0), GONE], [Place(None, 1.0, 1, 2)] * 4),
        ("cuda", False, [machine("a", CPU=1.0, GPU=2.0)], [Place(None, 0.5, 1, 1)] * 2),
        ("cuda", True, [machine("a", CPU=1.0, GPU=1.0)], [Place(None, 0.0, 1, 1)]),
        (
            "cuda",
            False,
            [
                machine("a", CPU=9.0, GPU=1.0),
                machine("b", CPU=4.0, GPU=2.0),
                machine("c", CPU=64.0),
            ],
            [Place(None, 1.0, 1, 2)] * 3,
        ),
    ],
)
def test_every_device_is_a_place(
    kind: Kind, streams: bool, nodes: list[dict[str, Any]], expected: list[Place]
) -> None:
    assert find_places(nodes, kind, streams) == expected


GPU = Place(None, 1.0, 1, 1)
A, B, C = (Place(name, 2.0, 0, 2) for name in "abc")


@pytest.mark.parametrize(
    ("places", "taken", "most", "expected"),
    [
        ([A, B], [], None, [A, B]),
        ([A, B], [B], None, [A]),
        ([A, B], [C], None, [A, B]),
        ([A, B, C], [B], 2, [A]),
        ([A, B, C], [A, B], 1, []),
        ([GPU] * 4, [GPU], None, [GPU] * 3),
        ([GPU] * 4, [GPU], 2, [GPU]),
        ([GPU], [GPU] * 3, None, []),
    ],
)
def test_what_no_engine_has_is_vacant(
    places: list[Place], taken: list[Place], most: int | None, expected: list[Place]
) -> None:
    assert vacant(places, taken, most) == expected


def test_an_engine_waits_for_its_whole_machine_and_then_takes_what_is_free() -> None:
    assert fitted(A, free=2.0, patient=True) == A
    assert fitted(A, free=1.5, patient=True) is None
    assert fitted(A, free=1.5, patient=False) == Place("a", 1.0, 0, 1)
    assert fitted(A, free=0.5, patient=False) is None
    assert fitted(GPU, free=0.0, patient=True) == GPU


def test_one_more_device_is_asked_for_as_a_whole() -> None:
    assert demand([A, Place("b", 4.0, 0, 4)], streams=False) == {"CPU": 2.0}
    assert demand([A], streams=True) == {"CPU": 3.0}
    assert demand([GPU], streams=True) == {"CPU": 1.0, "GPU": 1.0}
    assert demand([Place(None, 0.0, 1, 1)], streams=False) == {"GPU": 1.0}
    assert demand([], streams=False) == {"CPU": 1.0}
