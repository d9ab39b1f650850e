"""Whether W&B is online is found out quickly, and said in words."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from unlearning.run.tracking.online import offline_because

KEY = "a" * 40


@pytest.fixture(autouse=True)
def a_key(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def answering(monkeypatch):
    """A server that answers every question alike; returns the requests it got."""
    servers = []

    def start(status, body):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                got.append(self.headers["Authorization"])
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        got = []
        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{servers[-1].server_port}/")
        return got

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_online_with_a_key_that_is_known(answering):
    got = answering(200, json.dumps({"data": {"viewer": {"id": "x"}}}).encode())
    assert offline_because(chosen=False) is None
    assert len(got) == 1 and got[0].startswith("Basic ")


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [(401, b"{}", "does not know the key"), (403, b"", "does not know the key"),
     (200, b'{"data": {"viewer": null}}', "does not know the key"),
     (200, b"<html>Please sign in", "cannot be reached"), (503, b"", "error (503)")],
)  # fmt: skip
def test_a_server_that_refuses(status, body, reason, answering):
    answering(status, body)
    found = offline_because(chosen=False)
    assert reason in found and KEY not in found


def test_the_login_of_this_server_counts(answering, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY")
    got = answering(200, b'{"data": {"viewer": {"id": "x"}}}')
    (tmp_path / ".netrc").write_text(f"machine elsewhere login user password {KEY}\n")
    assert "no key" in offline_because(chosen=False)
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login user password {KEY}\n")
    assert offline_because(chosen=False) is None and len(got) == 1


def test_nothing_is_asked_where_it_need_not_be(answering, monkeypatch):
    got = answering(200, b"{}")
    assert "chosen" in offline_because(chosen=True)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "chosen" in offline_because(chosen=False)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY")
    assert "WANDB_API_KEY" in offline_because(chosen=False)
    assert got == []


def test_a_server_that_is_not_there_or_never_answers(monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("WANDB_BASE_URL", address)
        assert "cannot be reached" in offline_because(chosen=False)
        silent.listen()
        waits, urlopen = [], urllib.request.urlopen

        def waiting(*arguments, timeout):
            waits.append(timeout)
            return urlopen(*arguments, timeout=timeout)

        monkeypatch.setattr(urllib.request, "urlopen", waiting)
        assert address in offline_because(chosen=False, patience=0.5)
        assert waits == [0.5]
