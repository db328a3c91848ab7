"""Which of the driver's modules are its own, over layouts that people have."""

import sys
import types
import zipfile
from pathlib import Path

import pytest

from joblib_clutch.code import finding, places
from joblib_clutch.code.archive import AUTOMATIC, Archives
from joblib_clutch.code.folder import Bounds, Listing, TooMuchError


def tree(folder: Path, *names: str) -> Path:
    """Make files, whose content is their name; a slash at the end makes a folder."""
    for name in names:
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    return folder


def importable(folder: Path, bounds: Bounds = AUTOMATIC) -> set[str]:
    listing = Listing(bounds)
    listing.add_folder("", str(folder), everything=False, without=finding.OURS)
    return set(listing.files)


LAYOUTS = {
    "modules": (["a.py", "b.py", "notes.txt", "not-a-module.py", ".hidden.py"], {"a.py", "b.py"}),
    "a package with data": (
        ["kit/__init__.py", "kit/sub/deep.py", "kit/data/x.csv", "kit/__pycache__/a.pyc"],
        {"kit/__init__.py", "kit/sub/deep.py", "kit/data/x.csv"},
    ),
    "a namespace": (
        ["spaced/one.py", "spaced/inner/__init__.py", "spaced/inner/d.txt", "spaced/big.bin"],
        {"spaced/one.py", "spaced/inner/__init__.py", "spaced/inner/d.txt"},
    ),
    "compiled": (
        ["fast.so", "fast.cpython-311-x86_64-linux-gnu.so", "fast.abi3.so"],
        {
            "fast.so",
            "fast.abi3.so",
            *(
                n
                for n in ["fast.cpython-311-x86_64-linux-gnu.so"]
                if sys.version_info[:2] == (3, 11)
            ),
        },
    ),
    "what is nobody's code": (
        [
            "venv/pyvenv.cfg",
            "venv/lib/x.py",
            "node_modules/m.py",
            "pkg/__init__.py",
            "pkg/.git/config",
            "joblib_clutch/__init__.py",
        ],
        {"pkg/__init__.py"},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_has_modules_and_whole_packages(layout, tmp_path):
    names, expected = LAYOUTS[layout]
    assert importable(tree(tmp_path, *names)) == expected


def test_links_in_a_circle_end(tmp_path):
    tree(tmp_path, "kit/__init__.py")
    (tmp_path / "kit" / "again").symlink_to(tmp_path / "kit")
    assert importable(tmp_path) == {"kit/__init__.py"}


def test_what_is_too_much_names_the_largest(tmp_path):
    tree(tmp_path, "small.py")
    (tmp_path / "large.py").write_bytes(b"#" * 4_000_000)
    with pytest.raises(TooMuchError, match=r"large\.py \(4\.0 MB\)"):
        importable(tmp_path, Bounds(files=10, size=1 << 20))
    with pytest.raises(TooMuchError, match="more than 1 files"):
        importable(tmp_path, Bounds(files=1, size=1 << 30))


def test_a_folder_with_too_many_entries_is_not_searched_for_ever(tmp_path):
    for number in range(50):
        tree(tmp_path, f"d{number}/")
    with pytest.raises(TooMuchError, match="to look at"):
        importable(tmp_path, Bounds(files=10, size=1 << 30))


def test_installed_packages_and_the_standard_library_are_not_the_drivers(tmp_path):
    assert places.is_installed(types.__file__)
    assert places.is_installed(pytest.__file__)
    assert places.is_installed("/opt/e/lib/python3.11/site-packages/x/__init__.py")
    assert not places.is_installed(str(tmp_path / "module.py"))


def test_entries_of_the_search_path_are_whole_and_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree(tmp_path, "lib/", "site-packages/")
    entries = ["", "lib", str(tmp_path / "lib"), "missing", "site-packages", types.__file__]
    monkeypatch.setattr(sys, "path", entries)
    assert places.own_entries() == [str(tmp_path), str(tmp_path / "lib")]


def test_a_module_loaded_from_elsewhere_is_found_until_it_is_gone(tmp_path, monkeypatch):
    tree(tmp_path, "stray.py", "nested/__init__.py")
    for name, attributes in {
        "stray": {"__file__": str(tmp_path / "stray.py")},
        "nested": {
            "__file__": str(tmp_path / "nested/__init__.py"),
            "__path__": [str(tmp_path / "nested")],
        },
    }.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    loose = dict(finding.found().loose)
    assert loose["stray"] == str(tmp_path / "stray.py")
    assert loose["nested"] == str(tmp_path / "nested")
    monkeypatch.delitem(sys.modules, "stray")
    assert "stray" not in dict(finding.found().loose)


def test_what_an_editable_install_maps_is_found_before_it_is_imported(tmp_path, monkeypatch):
    tree(tmp_path, "src/kit/__init__.py", "src/one.py", "src/part/__init__.py")
    source = f"""
class _EditableFinder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None
MAPPING = {{"kit": {str(tmp_path / "src/kit")!r}, "one": {str(tmp_path / "src/one")!r},
            "space.part": {str(tmp_path / "src/part")!r}, "gone": "/nowhere/gone"}}
"""
    module = types.ModuleType("__editable___kit_1_finder")
    exec(source, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, module._EditableFinder])
    loose = dict(finding.found().loose)
    assert loose["kit"] == str(tmp_path / "src/kit")
    assert loose["one"] == str(tmp_path / "src/one.py")
    assert loose["space/part"] == str(tmp_path / "src/part")
    assert "gone" not in loose


def test_the_same_files_are_the_same_bytes(tmp_path):
    first = tree(tmp_path / "one", "b.py", "a.py", "kit/__init__.py")
    second = tree(tmp_path / "two", "kit/__init__.py", "a.py", "b.py")

    def archive(folder):
        made = Archives().get(
            folder,
            AUTOMATIC,
            lambda listing: listing.add_folder("", str(folder), everything=False),
        )
        assert made is not None
        return made

    assert archive(first).data == archive(second).data
    assert len(archive(first).digest) == 32
    changed = tree(tmp_path / "three", "a.py", "b.py", "kit/__init__.py")
    (changed / "a.py").write_text("x = 1\n")
    assert archive(changed).digest != archive(first).digest
    (tmp_path / "a.zip").write_bytes(archive(first).data)
    with zipfile.ZipFile(tmp_path / "a.zip") as zipped:
        assert zipped.namelist() == ["a.py", "b.py", "kit/__init__.py"]


def test_an_archive_is_made_again_only_when_a_file_came_changed_or_went(tmp_path, monkeypatch):
    import os

    archives, made = Archives(), []

    def fill(listing):
        made.append(1)
        listing.add_folder("", str(tmp_path), everything=False)

    def get():
        before = len(made)
        archives.get("key", AUTOMATIC, fill)
        return len(made) > before

    tree(tmp_path, "a.py", "kit/__init__.py")
    for path in [*tmp_path.rglob("*"), tmp_path]:
        os.utime(path, (1, 1))
    assert get()
    assert not get()
    tree(tmp_path, "kit/new.py")
    assert get()
    assert get(), "a file that was just written may change without a sign"
    (tmp_path / "a.py").unlink()
    assert get()


def test_unreadable_folders_of_others_are_left_out(tmp_path):
    import os

    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    tree(tmp_path, "a.py", "theirs/b.py")
    (tmp_path / "theirs").chmod(0)
    try:
        assert importable(tmp_path) == {"a.py"}
    finally:
        (tmp_path / "theirs").chmod(0o700)


def test_a_name_that_is_no_text_is_left_out(tmp_path):
    import os

    tree(tmp_path, "kit/__init__.py")
    (tmp_path / "kit" / os.fsdecode(b"\xff.txt")).touch()
    assert importable(tmp_path) == {"kit/__init__.py"}


def test_a_zip_file_on_the_search_path_goes_as_it_is(tmp_path, monkeypatch):
    from joblib_clutch.code.shipment import Shipment

    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as zipped:
        zipped.writestr("zipped.py", "X = 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "lib.zip")])
    pieces = Shipment((), True).found()
    assert (tmp_path / "lib.zip").read_bytes() in [piece.archive.data for piece in pieces]


def test_of_a_folder_with_too_much_what_is_loaded_goes_and_a_warning_says_so(tmp_path, monkeypatch):
    from joblib_clutch.code import shipment
    from joblib_clutch.exceptions import ClutchWarning

    tree(tmp_path, "used_module.py", "unused_one.py", "unused_two.py")
    monkeypatch.setattr(shipment, "AUTOMATIC", Bounds(files=2, size=1 << 20))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(finding, "_top_level", lambda: [("used_module", module)])
    module = types.ModuleType("used_module")
    module.__file__ = str(tmp_path / "used_module.py")
    with pytest.warns(ClutchWarning, match="not all modules in"):
        pieces = shipment.Shipment((), True).found()
    (tmp_path / "made.zip").write_bytes(pieces[0].archive.data)
    with zipfile.ZipFile(tmp_path / "made.zip") as zipped:
        assert zipped.namelist() == ["used_module.py"]
