"""Measures Clutch against loky, other backends and the limits of the machine, in one run.

Every scenario runs in rounds, and every round runs all backends in turn. Absolute
figures depend on the machine and on what else it does; compare the ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import backends
import limits
import machine
import picture
import report
import scenarios
import targets
from results import Results
from rounds import run_all

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = DOCS / "benchmarks.md"
PICTURE = DOCS / "benchmarks.svg"
BEGIN = "<!-- figures: `make bench` with `--write` rewrites them -->"
END = "<!-- end of the figures -->"
QUICK_SCENARIOS = ("tiny", "auto", "idle", "nested")


def main() -> int:
    """Run what the command line asks for."""
    options = _options()
    results = Results(
        about=machine.about(options.rounds),
        scenarios=tuple(scenarios.BY_NAME[name] for name in options.scenarios),
        backends=options.backends,
        quick=options.quick,
    )
    if not options.quick:
        results.limits, results.notes = limits.measure()
    run_all(results, options.rounds, _tell)
    print(report.as_text(results))
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    if options.write:
        _write(results)
    if options.check_targets:
        return _check(results)
    return 0


def _options() -> argparse.Namespace:
    peers = [backend.name for backend in backends.ALL if not backend.is_reference]
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"scenarios: {', '.join(scenarios.BY_NAME)}\nbackends: {', '.join(peers)}",
    )
    add = parser.add_argument
    add("--rounds", type=int, default=None, metavar="N", help="rounds that count (default: 5)")
    add("--scenarios", nargs="+", metavar="NAME", choices=scenarios.BY_NAME, help="default: all")
    add("--backends", nargs="+", metavar="NAME", choices=peers, help="default: all installed")
    add("--quick", action="store_true", help="smoke test: one small round of the cheapest")
    add("--json", type=Path, metavar="FILE", help="write every figure of every round")
    add("--write", action="store_true", help="rewrite the figures in docs/benchmarks.md")
    add("--check-targets", action="store_true", help="exit with 1 when a target is not met")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 1 if options.quick else 5
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {options.rounds}")
    if options.quick and options.write:
        parser.error("the figures of --quick are not worth writing")
    options.scenarios = options.scenarios or list(
        QUICK_SCENARIOS if options.quick else scenarios.BY_NAME
    )
    options.backends = _installed(parser, options.backends, peers)
    return options


def _installed(
    parser: argparse.ArgumentParser, asked: list[str] | None, peers: list[str]
) -> list[str]:
    for name in asked or ():
        if missing := backends.BY_NAME[name].missing():
            parser.error(f"{name} needs {', '.join(missing)}, which is not installed")
    return asked or [name for name in peers if not backends.BY_NAME[name].missing()]


def _tell(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def _write(results: Results) -> None:
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    figures = report.as_markdown(results, PICTURE.name)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}")
    PICTURE.write_text(picture.draw(results))


def _check(results: Results) -> int:
    keys = {key for key, _, _ in results.rows()}
    judged = {key: targets.verdict(key, results) for key in targets.ALL if key in keys}
    missed = [key for key, verdict in judged.items() if verdict != "met"]
    print(f"\n{len(judged) - len(missed)} of {len(judged)} targets met", end="")
    print(f"; not: {', '.join(missed)}" if missed else "")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
