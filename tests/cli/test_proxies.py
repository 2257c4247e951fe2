"""A proxy that cannot be used, from the outside: its variable is named, in words and for programs."""

from __future__ import annotations

import pytest

from tests.support.command import CommandLine

FAR = ("--api-url", "https://cloud.example.invalid")


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        (
            "socks4://127.0.0.1:9",
            "HTTPS_PROXY names a proxy of the kind 'socks4'; there are http, https, socks5, socks5h",
            "Set HTTPS_PROXY to http://HOST:PORT or socks5://HOST:PORT, or unset it.",
        ),
        (
            "http://",
            "HTTPS_PROXY names no proxy",
            "Set HTTPS_PROXY to http://HOST:PORT or socks5://HOST:PORT, or unset it.",
        ),
    ],
)
def test_it_is_named(cli: CommandLine, value: str, message: str, hint: str) -> None:
    """By a login, before anything is shown to open, and by `doctor`."""
    ran = cli(*FAR, "login", "--port", "0", "--no-browser", "--json", HTTPS_PROXY=value).ended(8)
    assert (ran.lines[-1]["message"], ran.lines[-1]["hint"]) == (message, hint)
    assert f"Error: {message}" in ran.err
    found = cli(*FAR, "doctor", "--offline", "--json", HTTPS_PROXY=value).ended(1).lines
    (named,) = [each for each in found if each.get("check") == "proxy"]
    assert (named["status"], named["message"], named["hint"]) == ("failed", message, hint)


@pytest.mark.parametrize(
    "no_proxy",
    ["localhost,127.0.0.1,::1", "127.0.0.0/8,::1/128", "fd07:b51a:cc66:f0::/64", "[::1]", "10.0.0.0/8,*.corp.example"],
)
def test_no_form_of_no_proxy_is_an_error(cli: CommandLine, no_proxy: str) -> None:
    """The proxy is used for what is not in it."""
    ran = cli(*FAR, "login", "--no-browser", "--port", "0", HTTPS_PROXY="http://127.0.0.1:9", NO_PROXY=no_proxy).ended(
        8
    )
    assert "the proxy 127.0.0.1:9 cannot be reached" in ran.err
