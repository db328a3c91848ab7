"""Drivers: scripts in processes of their own, as users run them."""

import json
import subprocess
import sys
import tempfile
import textwrap
import threading
import uuid
from pathlib import Path
from typing import Any

from support.agents import clean_environment
from support.processes import MARK
from support.waiting import until

# What scripts begin with; `say` is how they tell a test something.
_PREAMBLE = """\
import json, os, sys, time
import joblib
from joblib import Parallel, delayed, parallel_config
import joblib_clutch
from joblib_clutch import exceptions

def say(**facts):
    print(json.dumps(facts), flush=True)

"""


class Driver:
    """A script that runs. Use it in a ``with`` block: it is killed at the end.

    Parameters
    ----------
    source : str
        The script, indented as you like; `say(**facts)` sends facts to the test.
    *arguments : str
        Arguments of the script.
    python : str
        Interpreter.
    files : dict or None
        Contents of files beside the script, by their names.
    become : sequence of str
        A program that runs it, with arguments; empty: nothing in between.
    **environment : str
        Changes to the environment.

    Attributes
    ----------
    folder : Path
        Where the script is.
    """

    def __init__(
        self,
        source: str,
        *arguments: str,
        python: str = sys.executable,
        files: dict[str, str] | None = None,
        become: tuple[str, ...] = (),
        **environment: str,
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._folder = tempfile.TemporaryDirectory(prefix="clutch-test-")
        script = Path(self._folder.name) / "script.py"
        script.write_text(_PREAMBLE + textwrap.dedent(source))
        self.folder = script.parent
        for name, content in (files or {}).items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(content))
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self.process = subprocess.Popen(
            [*become, python, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=clean_environment(**{MARK: self.mark, **environment}),
            start_new_session=True,
            cwd=self._folder.name,
        )
        self.pid = self.process.pid
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> "Driver":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self._reader.join()
        self._stderr.close()
        self._folder.cleanup()

    @property
    def facts(self) -> dict[str, Any]:
        """Everything that was said so far; the latest of each name."""
        said: dict[str, Any] = {}
        for line in list(self.lines):
            if line.startswith("{"):
                said.update(json.loads(line))
        return said

    def fact(self, name: str, *, seconds: float = 30) -> Any:
        """Wait until the script has said something by this name; return it."""

        def seen() -> dict[str, Any]:
            facts = self.facts
            if name not in facts and self.process.poll() is not None:
                self._reader.join()
                if name not in self.facts:
                    raise AssertionError(
                        f"the script ended ({self.process.returncode}) without {name!r};"
                        f" it said {self.lines}\n{self.stderr()}"
                    )
            return self.facts

        return until(seen, lambda facts: name in facts, seconds=seconds, what=f"{name!r}")[name]

    def finish(self, seconds: float = 60) -> dict[str, Any]:
        """Wait until the script ends well; return all its facts."""
        code = self.process.wait(seconds)
        self._reader.join()
        assert code == 0, f"exit code {code}; it said {self.lines}\n{self.stderr()}"
        return self.facts

    def go_on(self) -> None:
        """Send the script a line, for which it may wait."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def stderr(self) -> str:
        """Return what it wrote to standard error so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    def _read(self) -> None:
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))


def run_script(source: str, *arguments: str, **options: Any) -> dict[str, Any]:
    """Run a script to its good end; return the facts that it said."""
    with Driver(source, *arguments, **options) as driver:
        return driver.finish()
