"""A running flow's secret is on disk before anything refers to it, and gone when the flow has ended."""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from systemprompt_cloud.base.errors import Io, UnsafeFile
from systemprompt_cloud.base.redaction import forget_secrets, redact
from systemprompt_cloud.engine.errors import VaultMissing
from systemprompt_cloud.engine.journal.vault import VaultFiles

FLOW = "01J9ZK-login.1"


def test_a_secret_comes_back_by_its_reference(tmp_path: Path) -> None:
    """Also in another process, which knows only the directory, the flow and the reference."""
    vault = VaultFiles(tmp_path / "state" / "vault")
    reference = vault.put(FLOW, "token", "t-ä-\n-secret")
    assert reference == "vault:token"
    assert vault.put(FLOW, "nonce", "n-secret") == "vault:nonce"
    script = (
        "import sys, pathlib; from systemprompt_cloud.engine.journal.vault import VaultFiles; "
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


@given(st.text(), st.characters(exclude_characters="._-", exclude_categories=["Lu", "Ll", "Nd"]), st.text())
@example("", "/", "")
@example("..", "/", "up")
@example("a", "\n", "")
@example("a", "\0", "b")
def test_a_flow_id_that_is_no_name_is_refused(before: str, wrong: str, after: str) -> None:
    """One wrong character is enough: no flow id leads out of the directory. Such a flow has no secrets to forget."""
    vault, flow = VaultFiles(Path("/nowhere")), before + wrong + after
    with pytest.raises(ValueError, match="not a flow id"):
        vault.put(flow, "token", "a-secret")
    with pytest.raises(VaultMissing, match="cannot be a file's name"):
        vault.get(flow, "vault:token")
    assert not vault.has(flow, "vault:token")
    vault.make_known(flow)
    vault.discard(flow)


@given(st.from_regex(r"[A-Za-z0-9._-]{1,80}", fullmatch=True))
@example("..")
@example(".")
def test_every_flow_id_that_is_a_name_stays_in_the_directory(flow_id: str) -> None:
    """Dots included."""
    with tempfile.TemporaryDirectory() as place:
        vault = VaultFiles(Path(place, "vault"))
        vault.put(flow_id, "token", "a-secret")
        assert [each.name for each in vault.directory.iterdir()] == [f"{flow_id}.json"]


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

    def put_five(n: int) -> None:
        for i in range(5):
            VaultFiles(tmp_path).put(FLOW, f"s{n}.{i}", f"secret-{n}-{i}")

    threads = [threading.Thread(target=put_five, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(8):
        for i in range(5):
            assert VaultFiles(tmp_path).get(FLOW, f"vault:s{n}.{i}") == f"secret-{n}-{i}"
