"""A running flow's secret is on disk before anything refers to it, and gone when the flow has ended."""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st
from systemprompt_cloud.base.errors import Io, UnsafeFile
from systemprompt_cloud.base.redaction import forget_secrets, redact
from systemprompt_cloud.engine.disk import Disk
from systemprompt_cloud.engine.errors import VaultMissing
from systemprompt_cloud.engine.journal.file_vault import FileVault
from systemprompt_cloud.engine.journal.vault import (
    VaultFiles,
    file_name,
    flow_of_file,
)

FLOW = "01J9ZK-login.1"


def test_a_secret_comes_back_by_its_reference(tmp_path: Path) -> None:
    """Also in another process, which knows only the directory, the flow and the reference."""
    vault = VaultFiles(tmp_path / "state" / "vault")
    reference = vault.put(FLOW, "token", "t-ä-\n-secret")
    assert reference == "vault:token"
    assert vault.put(FLOW, "nonce", "n-secret") == "vault:nonce"
    script = (
        "import sys, pathlib; from systemprompt_cloud.engine.journal.vault import VaultFiles, file_name, flow_of_file; "
        "print(ascii(VaultFiles(pathlib.Path(sys.argv[1])).get(*sys.argv[2:])))"
    )
    asked = subprocess.run(
        [sys.executable, "-c", script, vault.directory, FLOW, reference], capture_output=True, text=True, check=True
    )
    assert asked.stdout == ascii("t-ä-\n-secret") + "\n"
    assert vault.get(FLOW, "vault:nonce") == "n-secret"


def test_the_files_are_private(tmp_path: Path) -> None:
    """0600 in a 0700 directory."""
    vault = VaultFiles(tmp_path / "vault")
    vault.put(FLOW, "token", "a-secret")
    assert stat.S_IMODE(vault.directory.stat().st_mode) == 0o700
    assert [stat.S_IMODE(each.stat().st_mode) for each in vault.directory.iterdir()] == [0o600]


def test_a_second_put_replaces_the_first_and_leaves_the_others(tmp_path: Path) -> None:
    """The name is what a secret is known by."""
    vault = VaultFiles(tmp_path)
    vault.put(FLOW, "a", "first")
    vault.put(FLOW, "b", "other")
    vault.put(FLOW, "a", "second")
    assert (vault.get(FLOW, "vault:a"), vault.get(FLOW, "vault:b")) == ("second", "other")


@pytest.mark.parametrize("reference", ["vault:gone", "gone", "", "vault:"])
def test_a_missing_secret_names_the_flow(tmp_path: Path, reference: str) -> None:
    """No file, no such name, and something that is no reference: all say which flow cannot go on."""
    vault = VaultFiles(tmp_path)
    for _ in range(2):
        with pytest.raises(VaultMissing, match=FLOW):
            vault.get(FLOW, reference)
        assert not vault.has(FLOW, reference)
        vault.put(FLOW, "there", "a-secret")
    assert vault.has(FLOW, "vault:there")


def test_discarding_forgets_one_flow_only(tmp_path: Path) -> None:
    """And discarding what is not there is fine."""
    vault = VaultFiles(tmp_path)
    vault.put("one", "token", "a-secret")
    vault.put("two", "token", "b-secret")
    vault.discard("one")
    vault.discard("one")
    assert not vault.has("one", "vault:token")
    assert vault.get("two", "vault:token") == "b-secret"


@pytest.mark.parametrize(
    "broken", [b"", b"[]", b'{"token": 1}', b"\xff", b'{"token": "\xff"}', b'{"token": "a', b"[" * 100_000]
)
def test_an_unreadable_file_is_missing_to_get_and_set_aside_by_put(tmp_path: Path, broken: bytes) -> None:
    """`get` says that the secrets are gone and names the file; `put` keeps the broken one beside the new one."""
    vault = VaultFiles(tmp_path)
    path = tmp_path / f"{FLOW}.json"
    path.write_bytes(broken)
    with pytest.raises(VaultMissing, match="unreadable") as caught:
        vault.get(FLOW, "vault:token")
    assert str(path) in caught.value.user_message
    vault.put(FLOW, "token", "a-secret")
    assert vault.get(FLOW, "vault:token") == "a-secret"
    assert [each.read_bytes() for each in tmp_path.glob("*.unreadable-*")] == [broken]


def test_a_link_or_directory_in_the_files_place_is_an_error_not_a_missing_secret(tmp_path: Path) -> None:
    """What cannot be read is not called gone."""
    vault = VaultFiles(tmp_path)
    (tmp_path / "dir.json").mkdir()
    with pytest.raises(Io, match="is a directory"):
        vault.has("dir", "vault:token")
    (tmp_path / "link.json").symlink_to("elsewhere")
    with pytest.raises(UnsafeFile):
        vault.put("link", "token", "a-secret")


@given(st.text() | st.from_regex(r"[A-Za-z0-9._-]{1,300}", fullmatch=True), st.text())
@example("", "..")
@example("../up", ".")
@example("a\0b", "a\n")
@example("p.parcel v2-1", "p.parcel-v2-1")
@example("x" * 5000, "x" * 5001)
@example("x" * 200, "x" * 201)
@example("\ud800", "\udfff")
def test_every_flow_has_a_file_of_its_own_in_the_directory(flow: str, other: str) -> None:
    """Whatever its id is: names of machines were any text once, and ids of children's children are long."""
    with tempfile.TemporaryDirectory() as place:
        vault = VaultFiles(Path(place, "vault"))
        for each in (flow, other):
            vault.put(each, "token", f"a-secret-{each!a}")
        assert len(list(vault.directory.iterdir())) == len({flow, other})
        for each in (flow, other):
            assert vault.get(each, "vault:token") == f"a-secret-{each!a}"
            vault.make_known(each)
        vault.discard(flow)
        assert vault.has(other, "vault:token") == (other != flow)
        vault.discard(other)
        assert list(vault.directory.iterdir()) == []


@given(st.from_regex(r"[A-Za-z0-9._-]{1,200}", fullmatch=True))
@example("..")
@example(".")
@example("p.a.json-1")
@example("p.a.json.unreadable-1")
def test_an_id_that_is_a_name_is_its_files_name(flow: str) -> None:
    """People can find it; and the flow can be told from the name, also of a file that was set aside."""
    assert file_name(flow) == f"{flow}.json"
    for name in (file_name(flow), f"{file_name(flow)}.unreadable-20260101T000000Z-2"):
        assert flow_of_file(name) == flow


@pytest.mark.parametrize(
    "name", [file_name("p v2"), ".f.json.0123456789abcdef.tmp", "f.lock", "@f.json", "\udcff.json"]
)
def test_other_files_tell_no_flow(name: str) -> None:
    """A hash, a temporary file, or something else."""
    assert flow_of_file(name) is None


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä", "a\n"])
def test_a_name_that_cannot_be_a_reference_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is written."""
    with pytest.raises(ValueError, match="not a secret's name"):
        VaultFiles(tmp_path).put(FLOW, name, "a-secret")
    assert list(tmp_path.iterdir()) == []


def test_the_redactor_knows_every_secret_that_was_put_or_fetched(tmp_path: Path) -> None:
    """A secret without any shape is hidden in whatever is said later."""
    VaultFiles(tmp_path).put(FLOW, "code", "shapeless#put")
    assert redact("with shapeless#put inside") == "with *** inside"
    (tmp_path / "other.json").write_text('{"code": "shapeless#got"}')
    (tmp_path / "other.json").chmod(0o600)
    VaultFiles(tmp_path).get("other", "vault:code")
    assert redact("with shapeless#got inside") == "with *** inside"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("fg"), st.sampled_from(["put", "discard", "forget"])))
)
def test_the_redactor_knows_a_secret_as_long_as_a_flow_has_it(steps: list[tuple[str, str, str]]) -> None:
    """Flows, and vaults of one directory, that share secrets: the last one that lets go makes it a word again."""
    forget_secrets()
    with tempfile.TemporaryDirectory() as place:
        vaults = {"f": VaultFiles(Path(place)), "g": VaultFiles(Path(place))}
        held: set[tuple[str, str]] = set()
        for flow, at, did in steps:
            match did:
                case "put":
                    vaults[at].put(flow, "token", "shapeless#shared")
                    held.add((at, flow))
                case "discard":
                    vaults[at].discard(flow)
                    held.discard((at, flow))
                case _:
                    vaults[at].forget()
                    held = {each for each in held if each[0] != at}
            assert (redact("shapeless#shared") == "***") == bool(held)


def test_threads_of_one_flow_lose_nothing(tmp_path: Path) -> None:
    """Activities of one state put secrets at the same time; all are there afterwards."""
    files = VaultFiles(tmp_path)

    def put_five(n: int) -> None:
        for i in range(5):
            files.put(FLOW, f"s{n}.{i}", f"secret-{n}-{i}")

    threads = [threading.Thread(target=put_five, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(8):
        for i in range(5):
            assert VaultFiles(tmp_path).get(FLOW, f"vault:s{n}.{i}") == f"secret-{n}-{i}"


async def test_a_removal_waits_beside_the_loop_while_others_are_put(tmp_path: Path) -> None:
    """Other tasks run meanwhile; cancelled while it waits, it is done all the same."""
    files = VaultFiles(tmp_path)
    vault = FileVault(files, Disk(inline=False))
    await vault.put(FLOW, "code", "opaque-value")
    async with trio.open_nursery() as nursery:
        with files._one_writer:  # pyright: ignore[reportPrivateUsage] -- as a thread has it that is writing
            nursery.start_soon(vault.discard, FLOW)
            await trio.testing.wait_all_tasks_blocked()
            assert files.has(FLOW, "vault:code")
            nursery.cancel_scope.cancel()
    assert not files.has(FLOW, "vault:code")
