"""A loopback proxy for programs that know only https://civitai.com: it answers in that name with our server.

It speaks CONNECT, as HTTPS_PROXY asks for, with a certificate of an authority that was made for this while,
and tells our server the outer address in X-Forwarded-*. No other host can be reached through it.
"""

import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

HOST = "civitai.com"
KEPT_BACK = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "host"}


@dataclass
class Mapped:
    """Where the proxy listens, and what programs need to use and to believe it."""

    port: int
    authority: Path
    seen: list[str] = field(default_factory=list)
    """Method and path of each request, in order."""

    @property
    def environment(self) -> dict[str, str]:
        address = f"http://127.0.0.1:{self.port}"
        return {"HTTPS_PROXY": address, "NO_PROXY": "", "REQUESTS_CA_BUNDLE": str(self.authority)}


@contextmanager
def mapped(folder: Path, target: str) -> Iterator[Mapped]:
    """Map https://civitai.com to `target` (host:port); the authority's certificate is put into `folder`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    found = Mapped(server.server_address[1], folder / "authority.pem")
    server.context, server.target, server.seen = context, target, found.seen  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any
    inside = False

    def log_message(self, *_: Any) -> None:
        """What was asked is kept in `seen`."""

    def do_CONNECT(self) -> None:
        if self.path != f"{HOST}:443":
            self.send_error(502, "This proxy leads to one host only")
            return
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False
        self.inside = True

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def forward(self) -> None:
        if not self.inside:
            self.send_error(502, "This proxy leads to one host only, by CONNECT")
            return
        self.server.seen.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        kept = {name: value for name, value in self.headers.items() if name.lower() not in KEPT_BACK}
        kept |= {"X-Forwarded-Proto": "https", "X-Forwarded-Host": HOST}
        upstream = http.client.HTTPConnection(self.server.target, timeout=60)
        upstream.request(self.command, self.path, body, kept)
        self._send(upstream.getresponse())
        upstream.close()

    def _send(self, answer: http.client.HTTPResponse) -> None:
        content = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in KEPT_BACK | {"content-length"}:
                self.send_header(name, value)
        length = answer.getheader("content-length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = forward  # noqa: N815
