"""A directory of ours is made, closed and hidden; one that is in use for something else is never taken over."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from systemprompt_cloud.base.errors import DirectoryInUse, Io
from systemprompt_cloud.base.files import write_private
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.engine.errors import FlowNotFound
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.io.local.cloud_dir import ensure_cloud_dir
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.io.local.stores import held
from systemprompt_cloud.io.local.user_directories import user_directories


def seen(directory: Path) -> dict[str, tuple[int, bytes | None]]:
    """A directory's own mode, and what is in it, with modes and contents."""
    return {
        str(each.relative_to(directory)): (each.lstat().st_mode, each.read_bytes() if each.is_file() else None)
        for each in (directory, *directory.rglob("*"))
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Somebody's project, which others may look into."""
    path = tmp_path / "project"
    (path / "src").mkdir(parents=True)
    (path / "src" / "main.py").write_text("print()\n")
    (path / ".gitignore").write_text("*.pyc\n")
    path.chmod(0o755)
    return path


def test_a_cloud_directory_keeps_itself_out_of_git(tmp_path: Path) -> None:
    """The .gitignore holds `*`; one that is there is somebody's decision and stays."""
    ensure_cloud_dir(tmp_path / "new")
    assert (tmp_path / "new" / ".gitignore").read_text() == "*\n"
    (tmp_path / "new" / ".gitignore").write_text("*.json\n")
    ensure_cloud_dir(tmp_path / "new")
    assert (tmp_path / "new" / ".gitignore").read_text() == "*.json\n"


@pytest.mark.parametrize("ignore", ["*.pyc\n", None, "# by another tool\n*\n"])
def test_a_directory_in_use_is_left_as_it_is(repository: Path, ignore: str | None) -> None:
    """Neither closed to others nor hidden from git, and no file of ours is in it; the mend is named."""
    (repository / ".gitignore").unlink() if ignore is None else (repository / ".gitignore").write_text(ignore)
    before = seen(repository)

    def store() -> None:
        with held(repository / "credentials.json", lambda _: None):
            pass

    for attempt in (
        lambda: ensure_cloud_dir(repository),
        store,
        lambda: Journal(repository / "journal.sqlite3", make_directory=ensure_cloud_dir),
    ):
        with pytest.raises(DirectoryInUse, match=f"{repository} holds other things") as caught:
            attempt()
        assert caught.value.remedy == Remedy("use_directory", {"directory": f"{repository}/.systemprompt"})
    with pytest.raises(FlowNotFound):
        Journal(repository / "journal.sqlite3", create=False)
    assert seen(repository) == before
    ensure_cloud_dir(repository / ".systemprompt")


@pytest.mark.parametrize(
    "sign", ["credentials.json", "tenants.json", "session.json", "sessions/index.json", "journal.sqlite3"]
)
def test_a_directory_with_a_file_of_ours_goes_on(repository: Path, sign: str) -> None:
    """Whoever keeps a login among other things already is not locked out of it; what is in it stays."""
    (repository / sign).parent.mkdir(exist_ok=True)
    write_private(repository / sign, b"{}")
    ensure_cloud_dir(repository)
    assert stat.S_IMODE(repository.stat().st_mode) == 0o700
    assert (repository / ".gitignore").read_text() == "*.pyc\n"


def test_a_file_that_is_kept_under_a_name_of_its_own_is_a_sign(repository: Path) -> None:
    """A profile or an embedder may call the credentials what they like."""
    write_private(repository / "me.json", b"{}")
    with held(repository / "me.json", lambda path: path.read_bytes()) as found:
        assert found == b"{}"


def test_a_directory_is_ours_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is below a `.systemprompt/`, the Rust CLI's too, and the user's own directories, whatever is in them."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    project = tmp_path / "project" / ".systemprompt"
    for path in (project, project / "profiles" / "prod", *user_directories(os.environ)):
        path.mkdir(parents=True, exist_ok=True)
        (path / "projects").mkdir()
        (path / "Dockerfile").write_text("")
        ensure_cloud_dir(path)
        assert (path / ".gitignore").read_text() == "*\n"
    with pytest.raises(DirectoryInUse):
        ensure_cloud_dir(project / "..")


def test_what_a_process_leaves_before_its_first_file_is_no_stranger(tmp_path: Path) -> None:
    """A temporary file of a writer that was killed, a lock without its file: as good as empty. So is a new disk."""
    (tmp_path / "lost+found").mkdir()
    for name in (".gitignore.0123456789abcdef.tmp", "credentials.json.lock"):
        (tmp_path / name).touch(0o600)
    ensure_cloud_dir(tmp_path)
    (tmp_path / "owners").mkdir()
    ensure_cloud_dir(tmp_path)
    Journal(CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="explicit").journal).close()


def test_a_file_in_the_directorys_place_is_an_error_that_names_it(tmp_path: Path) -> None:
    """And one above it, too."""
    (tmp_path / "file").touch(0o600)
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(Io, match=f"{path}.*[Nn]ot a directory"):
            ensure_cloud_dir(path)
