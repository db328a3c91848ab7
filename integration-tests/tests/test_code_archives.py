"""Archives of code that mean harm, or are broken: nothing in them is believed."""

import importlib.util
import io
import stat
import zipfile
from pathlib import Path

import pytest
from joblib import Parallel, delayed
from support.waiting import until

from joblib_clutch import exceptions

SOURCE = Path(__file__).parents[2] / "executor/interpreter/src/code.py"


@pytest.fixture(scope="module")
def unpacker():
    spec = importlib.util.spec_from_file_location("clutch_code", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(*entries: tuple[str, bytes, int]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content, mode in entries:
            info = zipfile.ZipInfo("x")
            # Past the constructor, which mends names.
            info.filename = name
            info.external_attr = mode << 16
            zipped.writestr(info, content)
    return out.getvalue()


FILE = stat.S_IFREG | 0o644

HOSTILE = {
    "a name that climbs": archive(("../evil.py", b"", FILE)),
    "a name that climbs later": archive(("a/../../evil.py", b"", FILE)),
    "an absolute name": archive(("/tmp/evil.py", b"", FILE)),
    "a backslash": archive(("a\\..\\evil.py", b"", FILE)),
    "an empty part": archive(("a//evil.py", b"", FILE)),
    "a dot": archive(("./evil.py", b"", FILE)),
    "a link": archive(("evil.py", b"/etc/passwd", stat.S_IFLNK | 0o777)),
    "a device": archive(("evil.py", b"", stat.S_IFCHR | 0o666)),
    "a very long name": archive(("a" * 2000, b"", FILE)),
    "a name twice": archive(("a.py", b"1", FILE), ("a.py", b"2", FILE)),
    "a file that is a folder": archive(("a", b"1", FILE), ("a/b.py", b"2", FILE)),
    "no archive": b"x" * 100,
    "nothing": b"",
    "a torn archive": archive(("a.py", b"x" * 1000, FILE))[:-30],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", HOSTILE)
def test_an_archive_that_means_harm_is_refused(what, unpacker, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(ValueError, match="driver's code"):
        unpacker.extract(io.BytesIO(HOSTILE[what]), str(inside))
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert not any(path.is_symlink() for path in inside.rglob("*"))


def test_sizes_are_counted_not_believed(unpacker, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacker, "MAX_BYTES", 1000)
    bomb = archive(("a.py", bytes(600), FILE), ("b.py", bytes(600), FILE))
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        unpacker.extract(io.BytesIO(bomb), str(tmp_path))
    monkeypatch.setattr(unpacker, "MAX_FILES", 1)
    with pytest.raises(ValueError, match="has 2 entries, more than 1"):
        unpacker.extract(io.BytesIO(bomb), str(tmp_path))


def test_what_is_right_is_unpacked_with_who_may_run_it(unpacker, tmp_path):
    good = archive(
        ("kit/", b"", stat.S_IFDIR | 0o755),
        ("kit/a.py", b"1", FILE),
        ("kit/run", b"2", stat.S_IFREG | 0o4755),
        ("deep/er/b.py", b"3", 0),
    )
    unpacker.extract(io.BytesIO(good), str(tmp_path))
    assert (tmp_path / "kit/a.py").read_bytes() == b"1"
    assert (tmp_path / "deep/er/b.py").read_bytes() == b"3"
    mode = (tmp_path / "kit/run").stat().st_mode
    assert mode & stat.S_IXUSR
    assert not mode & stat.S_ISUID


def test_what_a_killed_worker_left_half_unpacked_is_begun_again(unpacker, tmp_path):
    (tmp_path / "name.part").mkdir()
    (tmp_path / "name.part" / "half.py").write_text("")
    content = archive(("whole.py", b"", FILE))
    (tmp_path / "a.zip").write_bytes(content)
    with (tmp_path / "a.zip").open("rb") as file:
        for _ in range(2):
            paths = unpacker.unpack(str(tmp_path), [(file.fileno(), len(content), "name")])
    assert [path.name for path in Path(paths[0]).iterdir()] == ["whole.py"]
    assert not (tmp_path / "name.part").exists()


def test_a_worker_that_was_given_a_bad_archive_says_so_and_others_are_not_affected(
    shared_agent, tmp_path
):
    (tmp_path / "bad.zip").write_bytes(HOSTILE["a name that climbs"])
    run = Parallel(
        2, backend="clutch", agents=shared_agent.address, py_modules=tmp_path / "bad.zip"
    )
    with pytest.raises(exceptions.WorkerStartError, match=r"'\.\./evil\.py' that leads out"):
        run(delayed(abs)(-i) for i in range(2))
    good = Parallel(2, backend="clutch", agents=shared_agent.address)
    assert good(delayed(abs)(-i) for i in range(2)) == [0, 1]
    until(shared_agent.busy, lambda busy: not busy, what="an idle agent")
