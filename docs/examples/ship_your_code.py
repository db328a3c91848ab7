"""Modules that are installed nowhere: they reach the workers by content."""

import tempfile
from pathlib import Path

import pricing  # beside this script
from joblib import Parallel, delayed, parallel_config

import joblib_clutch  # noqa: F401 - makes "clutch" known to joblib


def priced(item, count):
    """Tell a price, and where the worker had the package from."""
    return pricing.price(item, count), Path(pricing.__file__).parent


def read_input():
    """Read a file of the tasks' working directory, with a module that was named."""
    from extra import shout

    return shout(Path("input.txt").read_text())


# On an agent of another machine this is so by itself: what lives beside the script, on the
# driver's own entries of sys.path and in editable installs goes along. Here the private agent
# would see the files, so we ask for it.
with parallel_config("clutch", n_jobs=2, ship_code=True):
    results = Parallel()(delayed(priced)(item, 4) for item in ("apple", "pear"))
print([price for price, _ in results])
print("a copy:", results[0][1] != Path(pricing.__file__).parent)

# What is somewhere else is named, and tasks may start in a copy of a folder.
with tempfile.TemporaryDirectory() as folder:
    Path(folder, "extra.py").write_text("def shout(text):\n    return text.upper() + '!'\n")
    place = Path(folder, "place")
    place.mkdir()
    (place / "input.txt").write_text("read on the worker")
    with parallel_config(
        "clutch", n_jobs=2, py_modules=[Path(folder, "extra.py")], working_dir=place
    ):
        print(Parallel()(delayed(read_input)() for _ in range(2)))
