"""Puts a run in tables, for the terminal and for the documentation."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import limits
import machine
import targets

if TYPE_CHECKING:
    from results import Results, Spread

_NOTHING = "-"


def number(value: float | None) -> str:
    """Return a figure with three digits that count."""
    if value is None:
        return _NOTHING
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def times(ratio: Spread | None) -> str:
    """Return how many times better, with what the rounds lie between."""
    if ratio is None:
        return _NOTHING
    return f"{number(ratio.median)} ({number(ratio.least)} to {number(ratio.most)})"


def comparison(results: Results) -> list[list[str]]:
    """Return the table of Clutch and loky, beginning with its header."""
    header = ["scenario", "unit", "clutch", "loky", "limit", "x better than loky", "target", ""]
    body = [
        [
            row.title,
            row.unit,
            _cell(results, key, "clutch"),
            _cell(results, key, "loky"),
            number(results.limit(key)),
            times(results.ratio(key, than="loky")),
            "; ".join(map(str, targets.ALL.get(key, ()))),
            targets.verdict(key, results),
        ]
        for key, row, _ in results.rows()
    ]
    return [header, *body]


def everyone(results: Results) -> list[list[str]]:
    """Return the table of all backends, beginning with its header."""
    header = ["scenario", "unit", *results.backends]
    body = [
        [
            row.title,
            row.unit,
            *(
                _cell(results, key, name) + results.size_note(row, scenario, name)
                for name in results.backends
            ),
        ]
        for key, row, scenario in results.rows()
    ]
    return [header, *body]


def physical(results: Results) -> list[list[str]]:
    """Return the table of physical limits, beginning with its header."""
    known = [limit for limit in limits.ALL if limit.name in results.limits]
    body = [[limit.title, number(results.limits[limit.name]), limit.unit] for limit in known]
    return [["limit of this machine", "", "unit"], *body]


def remarks(results: Results) -> list[str]:
    """Return the failures and notes, each as a sentence."""
    scenarios: dict[tuple[str, str], list[str]] = {}
    for (scenario, backend), reason in results.failures.items():
        scenarios.setdefault((backend, reason), []).append(scenario)
    failed = [
        f"{backend} failed: {reason} ({', '.join(names)})"
        for (backend, reason), names in scenarios.items()
    ]
    return failed + results.notes


def as_text(results: Results) -> str:
    """Return everything for a terminal."""
    parts = [machine.in_words(results.about), _aligned(comparison(results))]
    if set(results.backends) - {"clutch", "loky"}:
        parts.append(_aligned(everyone(results)))
    if results.limits:
        parts.append(_aligned(physical(results)))
    parts.append("\n".join(remarks(results)))
    return "\n\n".join(filter(None, parts))


def as_markdown(results: Results, picture: str) -> str:
    """Return everything for the documentation, with a link to the picture."""
    parts = [
        machine.in_words(results.about),
        f"![How many times better than loky Clutch is]({picture})",
        _markdown(comparison(results)),
    ]
    if set(results.backends) - {"clutch", "loky"}:
        parts += ["All backends, medians:", _markdown(everyone(results))]
    parts.append(_markdown(physical(results)))
    parts.append("\n".join(f"- {remark}" for remark in remarks(results)))
    return "\n\n".join(filter(None, parts))


def _cell(results: Results, key: str, backend: str) -> str:
    if (key.rpartition(".")[0], backend) in results.failures:
        return "failed"
    spread = results.spread(key, backend)
    return number(spread.median if spread else None)


def _markdown(table: list[list[str]]) -> str:
    header, *body = table
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in lines
    )


def _aligned(table: list[list[str]]) -> str:
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in table
    )


def _width(text: str) -> int:
    return sum(not unicodedata.combining(character) for character in text)
