"""What can name an image is let through as it is; what cannot is refused with a reason, however it is made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.base.errors import EXIT_USAGE
from systemprompt_cloud.errors import InvalidImage
from systemprompt_cloud.io.cloud.images import LONGEST, LONGEST_NAME, check_image

HEX = "0123456789abcdef" * 4
GOOD = [
    "app",
    "app:1.2",
    "team/app",
    "registry.example/team/app:1.2",
    "registry.example:5000/team/app",
    "localhost/app",
    "Registry.Example/app",
    "[2001:db8::1]:5000/app",
    "127.0.0.1:5000/a/b/c/d:latest",
    "a__b/c-d/e.f/g---h:_tag",
    f"app@sha256:{HEX}",
    f"registry.example/app:1@sha512:{HEX}{HEX}",
    f"app:{'t' * 128}",
    "a" * LONGEST_NAME,
]
BAD = {
    "": "empty",
    " ": "space",
    "app ": "space",
    "a b": "space",
    "app\n": "space",
    "app\x1b[31m": "cannot be seen",
    "app\u202e": "cannot be seen",
    "-v": "dash",
    "--tenant": "dash",
    "-app/x:1": "dash",
    "https://registry.example/app": "an address",
    "team/App": "small letters",
    "App": "small letters",
    "app:": "not of the form",
    "app:-1": "not of the form",
    f"app:{'t' * 129}": "not of the form",
    "app@sha256": "not of the form",
    "app@sha256:abc": "not of the form",
    "/app": "not of the form",
    "app/": "not of the form",
    "a//b": "not of the form",
    "a..b": "not of the form",
    "a___b": "not of the form",
    "-host/app": "dash",
    "user@host/app": "not of the form",
    "app;rm": "not of the form",
    "$(id)": "not of the form",
    "äpp": "not of the form",
    "\u0661app": "not of the form",
    "a" * (LONGEST_NAME + 1): "longer than 255",
    "a" * (LONGEST + 1): "1025 characters",
    "a" * 1_000_000: "1000000 characters",
}

path_part = st.from_regex(r"[a-z0-9]{1,5}(?:(?:[._]|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
host_part = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,4}[A-Za-z0-9])?", fullmatch=True)
hosts = st.builds(
    "{}{}".format,
    st.lists(host_part, min_size=1, max_size=3).map(".".join),
    st.one_of(st.just(""), st.integers(0, 65535).map(":{}".format)),
)
references = st.builds(
    "{}{}{}{}".format,
    st.one_of(st.just(""), hosts.map("{}/".format)),
    st.lists(path_part, min_size=1, max_size=4).map("/".join),
    st.one_of(st.just(""), st.from_regex(r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)),
    st.one_of(st.just(""), st.from_regex(r"@sha256:[0-9a-f]{64}", fullmatch=True)),
)


@pytest.mark.parametrize("reference", GOOD)
def test_the_name_of_an_image_is_let_through(reference: str) -> None:
    """Names, hosts, ports, tags and digests, each at its longest."""
    assert check_image(reference) == reference


@pytest.mark.parametrize(("reference", "why"), BAD.items(), ids=lambda text: repr(text[:30]))
def test_what_names_no_image_is_refused_with_a_reason(reference: str, why: str) -> None:
    """`InvalidImage`, exit code 2, in one short line that can be shown anywhere."""
    with pytest.raises(InvalidImage) as refused:
        check_image(reference)
    assert why in refused.value.user_message
    assert refused.value.user_message.isprintable()
    assert len(refused.value.user_message) < 400
    assert refused.value.exit_code == EXIT_USAGE


@given(references)
def test_everything_the_grammar_makes_is_let_through(reference: str) -> None:
    """Made from the grammar's own parts."""
    assert check_image(reference) == reference


@given(st.text(max_size=80))
def test_nothing_dangerous_is_let_through(text: str) -> None:
    """Whatever passes is plain ASCII without spaces and begins with no dash: no option, no second line, no escape."""
    try:
        assert check_image(text) == text
    except InvalidImage:
        return
    assert text.isascii()
    assert not any(char.isspace() or char in "$;|&<>'\"`\\" for char in text)
    assert not text.startswith("-")
