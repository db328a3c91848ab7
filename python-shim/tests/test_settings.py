"""joblib's options about large arrays."""

from __future__ import annotations

from typing import Any

import pytest
from joblib import Parallel
from joblib.parallel import BACKENDS, SequentialBackend

from joblib_clutch.settings import Lease, Settings


@pytest.mark.parametrize(
    ("given", "meant"),
    [(None, None), (0, 0), (12, 12), (1e6, 1_000_000), ("1M", 1 << 20), ("0.5K", 512)],
)
def test_sizes_are_given_as_joblib_takes_them(given: Any, meant: int | None) -> None:
    assert Settings().merged({"max_nbytes": given}).max_nbytes == meant


@pytest.mark.parametrize("given", [-1, "-1K", "1 MB", "", [], float("nan"), float("inf"), 1j])
def test_other_sizes_are_refused_by_name(given: Any) -> None:
    with pytest.raises(ValueError, match=r"max_nbytes must be .* not ") as caught:
        Settings().merged({"max_nbytes": given})
    assert repr(given) in str(caught.value)


@pytest.mark.parametrize("mode", ["r", "c", "r+", "w+", None])
def test_joblibs_modes_are_accepted(mode: str | None) -> None:
    assert Settings().merged({"mmap_mode": mode}).mmap_mode == mode


@pytest.mark.parametrize("mode", ["w", "rb", 1, ["r"]])
def test_other_modes_are_refused_by_name(mode: Any) -> None:
    with pytest.raises(ValueError, match=r"mmap_mode must be one of 'r', 'c', .* not "):
        Settings().merged({"mmap_mode": mode})


@pytest.mark.parametrize("given", [0.01, 1, 2.5, 100])
def test_a_weight_is_a_number_between_its_bounds(given: float) -> None:
    assert Settings().merged({"weight": given}).weight == given


@pytest.mark.parametrize("given", [0, -1, 0.009, 101, float("nan"), float("inf")])
def test_another_weight_is_refused_by_name(given: float) -> None:
    with pytest.raises(ValueError, match=r"weight must be a number from 0\.01 to 100") as caught:
        Settings().merged({"weight": given})
    assert repr(given) in str(caught.value)


@pytest.mark.parametrize("given", [0, -1, 1 << 40])
def test_a_session_has_a_slot_at_least(given: int) -> None:
    with pytest.raises(ValueError, match="max_slots must be a whole number from 1 on"):
        Settings().merged({"max_slots": given})


def test_what_a_session_asks_for_makes_it_another_one() -> None:
    named = Settings(agents="unix-abstract:a", weight=2, max_slots=3)
    assert named.lease == Lease(None, None, 2, 3)
    private = Settings(weight=2, max_slots=3, silence_limit=9)
    assert private.lease == Lease(max_slots=3), "nobody shares a private agent"


def test_the_defaults_are_joblibs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Listening(SequentialBackend):  # type: ignore[misc]
        options: dict[str, Any]

        def configure(self, n_jobs: int, parallel: object, **options: Any) -> int:
            Listening.options = options
            return 1

    monkeypatch.setitem(BACKENDS, "listening", Listening)
    Parallel(n_jobs=2, backend="listening")([])
    assert Settings().merged(Listening.options) == Settings()
    assert Listening.options["max_nbytes"] == Settings().max_nbytes
    assert Listening.options["mmap_mode"] == Settings().mmap_mode


@pytest.mark.parametrize(("given", "meant"), [(None, None), (0, 0), (2.5, 2.5), (60, 60.0)])
def test_no_silence_is_a_choice_too(given: Any, meant: float | None) -> None:
    assert Settings().merged({"silence_limit": given}).silence_limit == meant


@pytest.mark.parametrize("given", [-1, float("nan"), "1 s", False])
def test_other_silences_are_refused_by_name(given: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"silence_limit must be .* not ") as caught:
        Settings().merged({"silence_limit": given})
    assert repr(given) in str(caught.value)
