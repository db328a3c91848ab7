"""What goes over the wire to an agent that does not see the driver's files."""

from __future__ import annotations

import pickle
import sys
import warnings
from typing import TYPE_CHECKING

import pytest
from clutch_wire.clutch.v1 import executor_pb2 as wire
from joblib import Parallel, delayed, parallel_config

from joblib_clutch import _native
from joblib_clutch.exceptions import ClutchWarning

if TYPE_CHECKING:
    from pathlib import Path

    from fake_agent import FakeAgent


@pytest.fixture
def named(tmp_path: Path) -> Path:
    module = tmp_path / "named_by_user.py"
    module.write_text("X = 1\n")
    return module


def run(agent: FakeAgent, **options: object) -> None:
    with parallel_config("clutch", agents=agent.address, **options):
        assert Parallel(n_jobs=2)(delayed(abs)(-i) for i in range(2)) == [0, 1]


def test_an_archive_is_offered_once_and_named_by_each_profile(agent, named):
    options = {"ship_code": False, "py_modules": [named]}
    run(agent, **options)
    run(agent, **options)
    run(agent, **options, memory_limit="1GB")
    (offer,) = agent.sent("offer_blob")
    profiles = agent.sent("define_profile")
    assert len(profiles) == 2
    for profile in profiles:
        (archive,) = profile.code
        assert (archive.blob_id, archive.digest) == (offer.blob_id, offer.digest)
        assert not archive.working_directory


def test_changed_content_is_another_profile_and_the_same_content_the_first_one(agent, named):
    options = {"ship_code": False, "py_modules": [named]}
    for text in ("X = 1\n", "X = 22\n", "X = 1\n"):
        named.write_text(text)
        run(agent, **options)
    assert len(agent.sent("offer_blob")) == 2
    assert len(agent.sent("define_profile")) == 2
    calls = [call.profile_id for call in agent.sent("open_call")]
    assert calls[0] == calls[2] != calls[1]


def test_a_working_directory_comes_first_and_says_so(agent, named, tmp_path):
    run(agent, ship_code=False, py_modules=[named], working_dir=tmp_path)
    (profile,) = agent.sent("define_profile")
    assert [archive.working_directory for archive in profile.code] == [True, False]
    # The folder has the module only, so it is the same archive.
    assert len(agent.sent("offer_blob")) == 1


def test_what_the_driver_has_of_its_own_goes_by_itself(agent, named, monkeypatch):
    monkeypatch.syspath_prepend(str(named.parent))
    run(agent)
    (profile,) = agent.sent("define_profile")
    assert profile.code
    setup = pickle.loads(profile.setup)
    assert setup["elsewhere"]
    assert setup["sys_path"][0] == str(named.parent)
    installed = [entry for entry in setup["sys_path"] if "site-packages" in entry]
    assert installed == [], "what is installed at the driver is not the agent's"
    assert any("site-packages" in entry for entry in sys.path)


def test_an_agent_of_the_version_before_gets_nothing_and_a_warning(agent, named):
    agent.protocol = wire.ProtocolVersion(major=1, minor=0)
    with pytest.warns(ClutchWarning, match="takes no code"):
        run(agent, py_modules=[named])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(agent, py_modules=[named])
    assert agent.sent("offer_blob") == []
    assert not any(profile.code for profile in agent.sent("define_profile"))


def test_a_digest_is_blake3():
    expected = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
    assert _native.digest(b"abc").hex() == expected
