"""A stand-in for the W&B server: answers as little as its client needs, and keeps what it got."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "somebody"


@dataclass
class Received:
    """What came in.

    Args:
        operations: GraphQL operations with their variables.
        streams: bodies of the file stream (history, summary, exit code) by run.
        uploads: files by the path they were put to.
        authorisations: `Authorization` headers.
        elsewhere: everything else in which a key could have been sent: paths, bodies.
    """

    operations: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    streams: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    authorisations: set[str] = field(default_factory=set)
    elsewhere: list[bytes] = field(default_factory=list)

    def runs(self) -> dict[str, dict[str, Any]]:
        """The variables with which each run was first made, by id."""
        made: dict[str, dict[str, Any]] = {}
        for name, variables in self.operations:
            if name == "UpsertBucket":
                made.setdefault(variables["name"], variables)
        return made

    def lines(self, run: str, file: str) -> list[dict[str, Any]]:
        """Rows of `wandb-history.jsonl` or `wandb-summary.json`."""
        contents = [stream.get("files", {}).get(file, {}) for stream in self.streams.get(run, [])]
        return [json.loads(line) for content in contents for line in content.get("content", [])]

    def exit_codes(self, run: str) -> list[int]:
        return [s["exitcode"] for s in self.streams.get(run, []) if s.get("complete")]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        received: Received = self.server.received  # type: ignore[attr-defined]
        received.elsewhere.append(self.path.encode() + b" " + body)
        if header := self.headers.get("Authorization"):
            received.authorisations.add(header)
        if self.path == "/stop":  # from now on as if there were no network
            self.server.gone = True  # type: ignore[attr-defined]
        elif self.server.gone:  # type: ignore[attr-defined]
            self.close_connection = True
            return
        answer: Any = {}
        if self.path == "/graphql":
            answer = self._graphql(json.loads(body), received)
        elif stream := re.match(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            received.streams.setdefault(stream[1], []).append(json.loads(body))
        elif self.command == "PUT":
            received.uploads[self.path] = body
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = _any  # noqa: N815

    def _graphql(self, request: dict[str, Any], received: Received) -> dict[str, Any]:
        found = re.match(r"\s*(?:query|mutation)\s+(\w+)", request["query"])
        name, variables = found[1] if found else "", request.get("variables") or {}
        received.operations.append((name, variables))
        make = getattr(self, f"_{name}", None)
        return {"data": make(variables) if make else {}}

    def _address(self, *parts: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/put/{'/'.join(parts)}"  # type: ignore[attr-defined]

    def _Viewer(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"viewer": {"id": "u", "entity": ENTITY, "username": ENTITY, "flags": "{}",
                           "teams": {"edges": []}}}  # fmt: skip

    def _RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        received: Received = self.server.received  # type: ignore[attr-defined]
        name = variables["name"]
        if name not in received.runs():
            return {"model": {"id": "m", "name": "", "entity": None, "bucket": None}}
        history = received.lines(name, "wandb-history.jsonl")
        tail = json.dumps([json.dumps(row) for row in history[-1:]])
        bucket = {
            "id": name, "name": name, "summaryMetrics": "{}", "displayName": name,
            "logLineCount": 0, "historyLineCount": len(history), "eventsLineCount": 0,
            "historyTail": tail, "eventsTail": "[]", "config": "{}", "tags": [], "notes": None,
            "wandbConfig": '{"t": 1}',  # without it the run counts as one that never began
        }  # fmt: skip
        entity = {"id": "e", "name": ENTITY}
        return {"model": {"id": "m", "name": "", "entity": entity, "bucket": bucket}}

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        project = {"id": "p", "name": variables.get("project") or "unlearning",
                   "entity": {"id": "e", "name": ENTITY}}  # fmt: skip
        bucket = {
            "id": variables["name"], "name": variables["name"], "project": project,
            "displayName": variables.get("displayName"), "config": variables.get("config"),
            "historyLineCount": 0, "sweepName": variables.get("sweep"),
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _ArtifactType(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"project": {"artifact": None}}

    def _CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = variables["input"]["artifactCollectionName"]
        made = {"id": name, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": made}}

    def _CreateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        file = {"id": "f", "uploadHeaders": [],
                "uploadUrl": self._address(variables["artifactID"], variables["name"])}  # fmt: skip
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def _CreateArtifactFiles(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        edges = [
            {"node": {"id": f["name"], "name": f["name"], "displayName": f["name"],
                      "storagePath": f["name"], "uploadHeaders": [],
                      "uploadUrl": self._address(f["artifactID"], f["name"]),
                      "uploadMultipartUrls": None, "artifact": {"id": f["artifactID"]}}}
            for f in variables["input"]["artifactFiles"]
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": ""}}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        files = [{"name": n, "uploadUrl": self._address(variables["run"], n)}
                 for n in variables["files"]]  # fmt: skip
        return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}


@contextmanager
def wandb_server() -> Iterator[tuple[str, Received]]:
    """The server's address, and what it gets while the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.received, server.gone = Received(), False  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.received  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
