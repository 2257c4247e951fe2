"""Where things are in a project, and how a project is found: on real directory trees, rule by rule.

The rules are those of "Finding a project" in docs/reference/wire.md section 3.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.errors import ProfileRequired
from systemprompt_cloud.io.local.paths import CloudPaths, get_cloud_paths, resolve_cloud_paths
from systemprompt_cloud.io.local.project import (
    CloudPath,
    DiscoveredProject,
    Place,
    ProfilePath,
    ProjectContext,
    ProjectPath,
)

CLOUD = {
    CloudPath.CREDENTIALS: "credentials.json",
    CloudPath.TENANTS: "tenants.json",
    CloudPath.CLI_SESSION: "session.json",
    CloudPath.SESSIONS_DIR: "sessions",
}
PROJECT = {
    ProjectPath.ROOT: ".systemprompt",
    ProjectPath.PROFILES_DIR: ".systemprompt/profiles",
    ProjectPath.DOCKER_DIR: ".systemprompt/docker",
    ProjectPath.STORAGE_DIR: "storage",
    ProjectPath.SESSIONS_DIR: ".systemprompt/sessions",
    ProjectPath.DOCKERFILE: ".systemprompt/Dockerfile",
    ProjectPath.LOCAL_CREDENTIALS: ".systemprompt/credentials.json",
    ProjectPath.LOCAL_TENANTS: ".systemprompt/tenants.json",
    ProjectPath.LOCAL_SESSION: ".systemprompt/session.json",
}
PROFILE = {
    ProfilePath.CONFIG: "profile.yaml",
    ProfilePath.SECRETS: "secrets.json",
    ProfilePath.DOCKER_DIR: "docker",
    ProfilePath.DOCKERFILE: "docker/Dockerfile",
    ProfilePath.ENTRYPOINT: "docker/entrypoint.sh",
    ProfilePath.DOCKERIGNORE: "docker/Dockerfile.dockerignore",
    ProfilePath.COMPOSE: "docker/compose.yaml",
}


def made(root: Path, *entries: str) -> Path:
    """A tree below a directory: a name that ends in a slash is a directory, any other a file."""
    root.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        place = root / entry
        if entry.endswith("/"):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    return root


# --- the names -----------------------------------------------------------------------------------------------------


def test_every_place_has_the_name_the_rust_cli_gives_it() -> None:
    """The golden table of the tree; a member that is not in it is a promise nobody has checked."""
    for table, kind in ((CLOUD, CloudPath), (PROJECT, ProjectPath), (PROFILE, ProfilePath)):
        assert set(table) == set(kind)
        for place, path in table.items():
            assert place.resolve(Path("/base")) == Path("/base") / path
            assert place.segments == tuple(path.split("/"))
            assert place.filename == path.rsplit("/", maxsplit=1)[-1]


def test_directories_and_docker_files_are_told_apart() -> None:
    """`is_dir` and `is_docker_file` are about what is meant, not about what is on disk."""
    every: list[Place] = [*CloudPath, *ProjectPath, *ProfilePath]
    assert {place for place in every if place.is_dir} == {
        CloudPath.SESSIONS_DIR,
        ProjectPath.ROOT,
        ProjectPath.PROFILES_DIR,
        ProjectPath.DOCKER_DIR,
        ProjectPath.STORAGE_DIR,
        ProjectPath.SESSIONS_DIR,
        ProfilePath.DOCKER_DIR,
    }
    docker = {ProfilePath.DOCKERFILE, ProfilePath.ENTRYPOINT, ProfilePath.DOCKERIGNORE, ProfilePath.COMPOSE}
    assert {place for place in ProfilePath if place.is_docker_file} == docker


def test_a_profile_has_its_files_in_its_own_directory(tmp_path: Path) -> None:
    """`profiles/<name>/…`, for either kind of project."""
    made(tmp_path, ".systemprompt/profiles/dev/")
    for project in (ProjectContext(tmp_path), DiscoveredProject.from_root(tmp_path)):
        assert project.profile_path("dev", ProfilePath.COMPOSE) == (
            tmp_path / ".systemprompt" / "profiles" / "dev" / "docker" / "compose.yaml"
        )
        assert project.has_profile("dev")
        assert not project.has_profile("prod")


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "/etc", "a/b", "a\\b", "a\0b"])
def test_a_profile_name_does_not_lead_out_of_the_profiles(name: str) -> None:
    """It names a directory there, or it is refused."""
    with pytest.raises(ProfileRequired, match="not the name of a profile"):
        ProjectContext(Path("/p")).profile_dir(name)


# --- finding a project ---------------------------------------------------------------------------------------------


def test_discovery_walks_up_to_the_first_systemprompt_directory(tmp_path: Path) -> None:
    """The nearest one wins, the start itself included; a file of that name is no project."""
    outer = made(tmp_path / "outer", ".systemprompt/", "inner/.systemprompt/", "inner/deep/er/", "other/.systemprompt")
    inner = outer / "inner"
    for start, root in ((inner / "deep" / "er", inner), (inner, inner), (outer / "other", outer), (outer, outer)):
        found = DiscoveredProject.discover_from(start)
        assert found is not None
        assert found.root == root
        assert found.systemprompt_dir == root / ".systemprompt"
        assert found.is_initialized


def test_discovery_may_find_nothing(tmp_path: Path) -> None:
    """None, and never the start; a root that is only said to be one is not initialised."""
    assert DiscoveredProject.discover_from(made(tmp_path, "Cargo.toml", "services/")) is None
    assert not DiscoveredProject.from_root(tmp_path).is_initialized


def test_a_discovered_project_tells_what_is_there(tmp_path: Path) -> None:
    """Whether there is a file, whatever it holds."""
    project = DiscoveredProject.from_root(made(tmp_path, ".systemprompt/tenants.json"))
    assert (project.has_credentials, project.has_tenants, project.has_session) == (False, True, False)


@pytest.mark.parametrize("sign", ["Cargo.toml", "services/", "storage/"])
def test_a_context_also_wants_a_sign_of_a_whole_project(tmp_path: Path, sign: str) -> None:
    """`.systemprompt/` alone is passed over for one further up with `Cargo.toml`, `services/` or `storage/` beside."""
    whole = made(tmp_path / "whole", ".systemprompt/", sign, "part/.systemprompt/", "part/here/")
    start = whole / "part" / "here"
    assert ProjectContext.discover_from(start).root == whole
    found = DiscoveredProject.discover_from(start)
    assert found is not None
    assert found.root == whole / "part"


@pytest.mark.parametrize(
    "entries", [(), (".systemprompt/",), (".systemprompt/", "services"), ("Cargo.toml", "storage/")]
)
def test_a_context_falls_back_to_the_start(tmp_path: Path, entries: tuple[str, ...]) -> None:
    """Without a whole project at or above it the start is where one would be made; `services` must be a directory."""
    root = made(tmp_path / "root", "here/", *entries)
    assert ProjectContext.discover_from(root / "here").root == root / "here"


def test_a_relative_start_is_taken_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the walk goes on above it."""
    monkeypatch.chdir(made(tmp_path, ".systemprompt/", "storage/", "a/b/") / "a")
    for found in (DiscoveredProject.discover(), DiscoveredProject.discover_from(Path("b")), ProjectContext.discover()):
        assert found is not None
        assert found.root == tmp_path


def test_a_current_directory_that_was_removed_is_an_error_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a traceback."""
    monkeypatch.chdir(made(tmp_path / "gone"))
    (tmp_path / "gone").rmdir()
    for look in (DiscoveredProject.discover, ProjectContext.discover, get_cloud_paths):
        with pytest.raises(Io, match="current directory"):
            look()


# --- the cloud's files ---------------------------------------------------------------------------------------------


def test_a_configured_credentials_path_gives_the_base(tmp_path: Path) -> None:
    """Its parent, as the Rust crate's own default `../../credentials.json` shows; the tenants may be elsewhere."""
    profile = made(tmp_path, ".systemprompt/profiles/dev/") / ".systemprompt" / "profiles" / "dev"
    paths = CloudPaths.from_config(profile, "../../credentials.json", "~/mine.json", {"HOME": "/home/ann"})
    assert paths.credentials.resolve() == tmp_path / ".systemprompt" / "credentials.json"
    assert paths.resolve(CloudPath.TENANTS) == paths.tenants == Path("/home/ann/mine.json")
    assert paths.sessions_index.resolve() == tmp_path / ".systemprompt" / "sessions" / "index.json"
    assert paths.session.resolve() == tmp_path / ".systemprompt" / "session.json"
    named = CloudPaths.from_config(profile, "/etc/cloud/login.json")
    assert (named.credentials, named.directory) == (Path("/etc/cloud/login.json"), Path("/etc/cloud"))
    assert named.tenants == Path("/etc/cloud/tenants.json")


@pytest.mark.parametrize(
    ("profile", "base"),
    [
        ("/p/.systemprompt/profiles/dev", "/p/.systemprompt"),
        ("/p/.systemprompt/a/.systemprompt/profiles/dev", "/p/.systemprompt/a/.systemprompt"),
        ("/p/.systemprompt", "/p/.systemprompt"),
        ("/p/services/profiles/dev", "/p/services/profiles/dev/.systemprompt"),
    ],
)
def test_without_one_the_base_is_found_from_the_profile(profile: str, base: str) -> None:
    """The nearest `.systemprompt` at or above it by name, else a `.systemprompt` in it."""
    paths = CloudPaths.from_config(Path(profile))
    assert paths.directory == Path(base)
    assert paths.credentials == Path(base, "credentials.json")


def test_a_profile_shares_its_projects_journal(tmp_path: Path) -> None:
    """However its directory is written, the flows of one project are found again; none of them is kept in it."""
    environ = {"HOME": str(tmp_path / "home")}
    profile = made(tmp_path / "p", ".systemprompt/profiles/dev/") / ".systemprompt" / "profiles" / "dev"
    found = resolve_cloud_paths(None, environ, tmp_path / "p")
    for paths in (
        CloudPaths.from_config(profile, environ=environ),
        CloudPaths.from_config(profile, "../../credentials.json", environ=environ),
        CloudPaths.from_project_context(ProjectContext(tmp_path / "p"), environ),
    ):
        assert paths.state_directory == found.state_directory
        assert paths.origin == "project"
        assert not paths.journal.is_relative_to(tmp_path / "p")


def test_a_path_on_disk_is_told_from_one_that_is_not(tmp_path: Path) -> None:
    """`exists` looks."""
    paths = resolve_cloud_paths(made(tmp_path, "tenants.json"), {}, tmp_path)
    assert paths.exists(CloudPath.TENANTS)
    assert not paths.exists(CloudPath.CREDENTIALS)


def test_outside_any_project_the_users_directories_are_used_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`get_cloud_paths` is what the command line uses; `origin` says which directory it is."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("SYSTEMPROMPT_DIR", raising=False)
    monkeypatch.chdir(made(tmp_path / "project", ".systemprompt/", "elsewhere/"))
    assert (get_cloud_paths().directory, get_cloud_paths().origin) == (
        tmp_path / "project" / ".systemprompt",
        "project",
    )
    monkeypatch.chdir(tmp_path)
    assert get_cloud_paths().origin == "user"
    assert get_cloud_paths().directory == tmp_path / "data" / "systemprompt-cloud"
