from __future__ import annotations

from fpt_ray.seeding import derive_seed, trial_seed


def test_seeds_are_the_same_on_every_machine() -> None:
    # Recorded once: a change would orphan every run directory in the world.
    assert derive_seed(0, "tune", 0) == 800_646_256_517_505_246
    assert trial_seed(0, "tune", 0) == derive_seed(0, "tune", 0) >> 32


def test_every_part_of_the_name_counts() -> None:
    seeds = {
        derive_seed(0),
        derive_seed(1),
        derive_seed(0, "a"),
        derive_seed(0, "b"),
        derive_seed(0, "a", 1),
        derive_seed(0, "a", "1"),
        derive_seed(0, "a1"),
    }
    assert len(seeds) == 7


def test_seeds_fit_where_they_are_used() -> None:
    assert all(0 <= derive_seed(i) < 2**63 for i in range(100))
    assert all(0 <= trial_seed(i, "final", i) < 2**31 for i in range(100))
