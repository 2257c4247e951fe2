"""Recording a release: each story once, whole, and never written over by accident."""

from __future__ import annotations

from pathlib import Path

import pytest
from systemprompt_cloud.engine.recordings import check_recording, read_recordings
from systemprompt_cloud.flows.onboarding import all_programs
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.recorder import HOME, record_release


async def test_a_story_is_recorded(tmp_path: Path) -> None:
    """Named by its release, with every flow in it, and good to be taken up anywhere."""
    count = await record_release(tmp_path / "9.9.9", stories=["provisioning"])
    (recording,) = read_recordings(tmp_path)
    assert (recording.release, recording.story) == ("9.9.9", "provisioning")
    assert sum(len(flow.moments) for flow in recording.flows) == count
    paths = CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="explicit")
    assert check_recording(recording, all_programs(Services(paths))) == []
    text = (tmp_path / "9.9.9" / "provisioning.json").read_text()
    assert f"{HOME}/.systemprompt/tenants.json" in text


async def test_what_was_recorded_stays(tmp_path: Path) -> None:
    """A second recording of the same release is refused unless it is asked for."""
    directory = tmp_path / "9.9.9"
    await record_release(directory, stories=["login-denied"])
    before = (directory / "login-denied.json").read_bytes()
    with pytest.raises(FileExistsError, match="recorded already"):
        await record_release(directory, stories=["login-denied"])
    assert (directory / "login-denied.json").read_bytes() == before
    await record_release(directory, stories=["login-denied"], again=True)
    assert (directory / "login-denied.json").read_bytes() != before
