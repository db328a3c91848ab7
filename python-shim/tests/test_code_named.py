"""``py_modules``, ``working_dir`` and ``ship_code``, and what they make of a call."""

import sys
import types
import zipfile
from pathlib import Path

import pytest

from joblib_clutch.code.archive import Archives
from joblib_clutch.code.explicit import module_archive
from joblib_clutch.code.missing import how_to_ship
from joblib_clutch.code.shipment import NOTHING, shipment_of
from joblib_clutch.settings import Settings


def names(archive, tmp_path):
    (tmp_path / "made.zip").write_bytes(archive.data)
    with zipfile.ZipFile(tmp_path / "made.zip") as zipped:
        return zipped.namelist()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "src" / "kit"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "data.txt").write_text("x")
    (tmp_path / "src" / "single.py").write_text("")
    return folder


def test_a_package_by_path_by_name_and_by_module_is_the_same(package, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(package.parent))
    import kit

    try:
        wanted = [package, str(package), "kit", "kit.anything", kit]
        archives = [module_archive(Archives(), each) for each in wanted]
    finally:
        del sys.modules["kit"]
    assert len({archive.digest for archive in archives}) == 1
    assert names(archives[0], tmp_path) == ["kit/__init__.py", "kit/data.txt"]


def test_a_file_and_a_wheel(package, tmp_path):
    single = module_archive(Archives(), package.parent / "single.py")
    assert names(single, tmp_path) == ["single.py"]
    wheel = tmp_path / "kit-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as zipped:
        zipped.writestr("kit/__init__.py", "")
    assert module_archive(Archives(), wheel).data == wheel.read_bytes()


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("no_such_module", "this process has no module 'no_such_module'"),
        ("sys", "the module 'sys' has no file"),
        ("/nowhere/x.py", "there is no file or folder '/nowhere/x.py'"),
        (Path("/usr/lib-x.y"), "there is no file or folder"),
        (Path("/"), "cannot be imported by its name"),
    ],
)
def test_what_cannot_be_shipped_is_named(wanted, told):
    with pytest.raises(ValueError, match=told):
        module_archive(Archives(), wanted)


def test_a_zip_that_is_none_is_refused(tmp_path):
    (tmp_path / "x.zip").write_text("no")
    with pytest.raises(ValueError, match="is not a zip file"):
        module_archive(Archives(), tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"py_modules": [3]}, TypeError),
        ({"py_modules": b"x"}, TypeError),
        ({"working_dir": 3}, TypeError),
        ({"working_dir": "/nowhere"}, ValueError),
        ({"ship_code": "always"}, ValueError),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, kind):
    with pytest.raises(kind, match=next(iter(options))):
        Settings(**options)


def test_one_module_need_not_be_in_a_list():
    assert Settings(py_modules="kit").py_modules == ("kit",)
    assert Settings(py_modules=types).py_modules == (types,)


def test_a_private_agent_of_whose_user_nothing_was_named_gets_nothing(package):
    assert shipment_of(Settings()) is NOTHING
    assert shipment_of(Settings(ship_code=False)) is NOTHING
    assert NOTHING.is_local
    assert not shipment_of(Settings(ship_code=True)).is_local
    named = shipment_of(Settings(py_modules=[package], working_dir=package))
    assert [piece.working_directory for piece in named.named] == [True, False]
    assert not named.is_local


def test_shipments_are_equal_by_content(package):
    def shipment(**options):
        return shipment_of(Settings(agents="unix:/x", **options))

    assert shipment() == shipment()
    assert shipment(py_modules=[package]) == shipment(py_modules=[str(package)])
    assert shipment(py_modules=[package]) != shipment()
    assert shipment(ship_code=True) != shipment()
    before = shipment(py_modules=[package])
    (package / "data.txt").write_text("something else")
    assert shipment(py_modules=[package]) != before


def test_only_a_module_that_the_driver_has_is_worth_a_hint():
    def hint(name, kind="ModuleNotFoundError"):
        return how_to_ship(kind, f"No module named {name!r}", None)

    assert "py_modules=['json']" in (hint("json.decoder") or "")
    assert "py_modules=['xmlrpc']" in (hint("xmlrpc") or "")
    import _decimal  # noqa: F401 - compiled in any CPython of ours

    assert ("it is compiled" in (hint("_decimal") or "")) == hasattr(
        sys.modules["_decimal"], "__file__"
    )
    assert hint("no_such_module") is None
    assert hint("no_such.module") is None
    assert hint("json", "ValueError") is None
    carried = ModuleNotFoundError("odd text", name="json")
    assert how_to_ship("ModuleNotFoundError", "odd text", carried) is not None
