"""A small certificate authority for `certificate.py` to talk to, and the DNS of the domains: the other side.

    python examples/authority.py [PORT]    # prints its URL; 8555 by default

It behaves as authorities do: it is busy at the first request for an order, sees a DNS record a moment after it was
added, and drops the event stream once. It issues no real certificate, and forgets everything when it ends.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SEEN_AFTER = 0.1
"""Seconds until a DNS record that was added is seen."""

ISSUED_AFTER = 0.3
"""Seconds from then until the certificate is issued."""


class Order:
    """What was ordered under one idempotency key.

    Attributes:
        domain: For which domain.
        checked: When the domain was proven, on this process's clock; None before.
        streams: How often its event stream was opened.
    """

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.checked: float | None = None
        self.streams = 0

    @property
    def certificate(self) -> str:
        """The certificate, once it is issued; empty before."""
        if self.checked is None or time.monotonic() < self.checked + ISSUED_AFTER:
            return ""
        return f"-----BEGIN CERTIFICATE-----\nnot a real one, for {self.domain}\n-----END CERTIFICATE-----"


class Authority(ThreadingHTTPServer):
    """The server of an authority.

    Args:
        port: Where it listens; 0 for any free port.
        silent: Whether no event is ever sent on its streams.

    Attributes:
        url: Its URL.
        asked: The idempotency keys it has seen.
        orders: What was ordered, by idempotency key.
        records: The DNS records, with the moments they were added.
    """

    daemon_threads = True

    def __init__(self, port: int = 0, *, silent: bool = False) -> None:
        super().__init__(("127.0.0.1", port), Answers)
        self.silent = silent
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: set[str] = set()
        self.orders: dict[str, Order] = {}
        self.records: dict[str, tuple[str, float]] = {}

    def place(self, key: str, domain: str) -> tuple[int, dict[str, str]]:
        """Place an order, once for each key; the first request for it is refused."""
        if key not in self.asked:
            self.asked.add(key)
            return 503, {"problem": "busy"}
        self.orders.setdefault(key, Order(domain))
        return 201, {"url": self.url_of(list(self.orders).index(key))}

    def url_of(self, number: int) -> str:
        """The address of an order."""
        return f"{self.url}/orders/{number}"

    def check(self, number: int, order: Order) -> tuple[int, dict[str, str]]:
        """Look for the DNS record of an order; what was seen once is not looked for again."""
        wanted, added = self.records.get(f"_acme-challenge.{order.domain}", ("", 0.0))
        if order.checked is None and wanted == self.url_of(number) and time.monotonic() > added + SEEN_AFTER:
            order.checked = time.monotonic()
        return (409, {"problem": "no DNS record yet"}) if order.checked is None else (200, {})


class Answers(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Authority  # pyright: ignore[reportIncompatibleVariableOverride] the base class knows any server

    def handle(self) -> None:
        """Answer, unless the client has gone."""
        with suppress(ConnectionError):
            super().handle()

    def answer(self) -> None:
        """Answer any request."""
        text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        match self.command, *self.path.strip("/").split("/"):
            case "POST", "orders":
                self.send(*self.server.place(self.headers["Idempotency-Key"], text))
            case "PUT", "dns", name:
                if self.server.records.get(name, ("",))[0] != text:
                    self.server.records[name] = (text, time.monotonic())
                self.send(200, {})
            case "DELETE", "dns", name:
                self.server.records.pop(name, None)
                self.send(200, {})
            case method, "orders", number, *rest if int(number) < len(self.server.orders):
                order = list(self.server.orders.values())[int(number)]
                match method, *rest:
                    case "POST", "check":
                        self.send(*self.server.check(int(number), order))
                    case "GET", "events":
                        self.stream(order)
                    case _:
                        self.send(200, {"certificate": order.certificate})
            case _:
                self.send(404, {"problem": "no such thing here"})

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 the names http.server asks for

    def send(self, status: int, body: dict[str, str]) -> None:
        """Send JSON."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def stream(self, order: Order) -> None:
        """Send the event stream of an order: a comment now and then, and one event when it is issued."""
        order.streams += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        while self.server.silent or not order.certificate:
            self.wfile.write(b": still working\n\n")
            if order.streams == 1:
                return
            time.sleep(0.1)
        lines = "".join(f"data: {line}\n" for line in order.certificate.splitlines())
        self.wfile.write(f"event: issued\n{lines}\n".encode())


if __name__ == "__main__":
    with Authority(int(sys.argv[1]) if sys.argv[1:] else 8555) as authority:
        print(authority.url, flush=True)
        authority.serve_forever()
