"""A local stand-in for the W&B server: the part of its HTTP API that wandb-core 0.31 talks to.

It keeps what it is sent, so that a test can say what a server would have: runs by id with their
group, config, history, summary, files and artifacts. It can fall silent, answer 500 or hang.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4  # a key of the right form
ENTITY = "tester"


@dataclass
class StubRun:
    """One run as the server has it."""

    id: str
    project: str
    display_name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    commit: str | None = None
    repo: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    preempting: bool = False

    def rows(self, key: str) -> list[dict[str, Any]]:
        """The history rows that hold a key."""
        return [row for row in self.history if key in row]

    def steps(self) -> list[int]:
        """The `_step` of every history row, in the order received."""
        return [row["_step"] for row in self.history]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The define_metric calls, as the config carries them, by field number."""
        wandb: dict[str, Any] = self.config.get("_wandb", {}).get("value", {})
        return list(wandb.get("m", []))


class Stub:
    """The server, in a thread on 127.0.0.1.

    Attributes:
        mode: "up", "refuse" (401), "hang" (no answer until the end), else 500 to everything.
        on_history: called with a run after it has received history lines.
    """

    def __init__(self) -> None:
        self.mode = "up"
        self.runs: dict[str, StubRun] = {}
        self.opened: Counter[str] = Counter()  # how many times a client asked for each run
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.on_history: Callable[[StubRun], None] = lambda run: None
        self.released = threading.Event()
        self.blobs: dict[str, bytes] = {}
        self._lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"stub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the door: connections are refused from now on."""
        if self.released.is_set():
            return
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def only(self) -> StubRun:
        """The one run there is."""
        assert len(self.runs) == 1, sorted(self.runs)
        return next(iter(self.runs.values()))

    def graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer one GraphQL request."""
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found.group(1) if found else "anonymous"
        self.requests.append(name)
        with self._lock:
            answer = getattr(self, f"_{name}", None)
            if answer is not None:
                return dict(answer(variables))
            if "__type" in query or "__schema" in query:
                return {name: {"inputFields": [], "fields": []}}
            self.errors.append(f"no answer for {name}: {query[:300]}")
            return {}

    # --- what wandb-core asks ------------------------------------------------------------

    def _Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
        return {"viewer": {**viewer, "teams": {"edges": []}}}

    def _ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        self.opened[variables["name"]] += 1
        model = {"id": "m", "name": variables["project"], "entity": {"id": "e", "name": ENTITY}}
        if run is None:
            return {"model": {**model, "bucket": None}}
        tail = json.dumps([json.dumps(run.history[-1])] if run.history else [])
        bucket = {
            "id": f"bucket-{run.id}",
            "name": run.id,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.display_name,
            "logLineCount": 0,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "historyTail": tail,
            "eventsTail": "[]",
            "config": json.dumps(run.config),
            "tags": run.tags,
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {**model, "bucket": bucket}}

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables.get("name") or str(variables["id"]).removeprefix("bucket-")
        inserted = name not in self.runs
        run = self.runs.setdefault(name, StubRun(name, variables.get("project") or "p"))
        for key, attribute in (
            ("displayName", "display_name"),
            ("groupName", "group"),
            ("jobType", "job_type"),
            ("tags", "tags"),
            ("commit", "commit"),
            ("repo", "repo"),
        ):
            if variables.get(key) is not None:
                setattr(run, attribute, variables[key])
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        if variables.get("summaryMetrics"):
            run.summary = json.loads(variables["summaryMetrics"])
        project = {"id": "p", "name": run.project, "entity": {"id": "e", "name": ENTITY}}
        bucket = {
            "id": f"bucket-{run.id}",
            "name": run.id,
            "displayName": run.display_name,
            "description": None,
            "config": json.dumps(run.config),
            "sweepName": None,
            "project": project,
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [
            {"name": n, "uploadUrl": f"{self.url}/upload/{variables['run']}/{n}"}
            for n in variables["files"]
        ]
        return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}

    def _OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    def _NotifyScriptableRunAlert(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.runs[variables["runName"]].alerts.append(variables)
        return {"notifyScriptableRunAlert": {"success": True}}

    def _XXHashDigestsEnabled(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def _ArtifactType(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def _FetchArtifactDigestAlgorithm(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def _CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        given = variables["input"]
        number = sum(len(run.artifacts) for run in self.runs.values())
        self.runs[given["runName"]].artifacts.append(given)
        sequence = {"id": "s", "name": given["artifactCollectionName"], "latestArtifact": None}
        artifact = {"id": f"artifact-{number}", "state": "PENDING", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = f"{variables['artifactID']}/manifest"
        file = {"id": "f", "uploadUrl": f"{self.url}/blob/{name}", "uploadHeaders": []}
        manifest = {"id": f"manifest-{variables['artifactID']}", "file": file}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _UpdateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = str(variables["artifactManifestID"]).removeprefix("manifest-") + "/manifest"
        file = {"id": "f", "uploadUrl": f"{self.url}/blob/{name}", "uploadHeaders": []}
        manifest = {"id": variables["artifactManifestID"], "file": file}
        return {"updateArtifactManifest": {"artifactManifest": manifest}}

    def _CreateArtifactFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        nodes = []
        for file in variables["input"]["artifactFiles"]:
            path = f"{file['artifactID']}/{file['name']}"
            node = {
                "storagePath": path,
                "uploadUrl": f"{self.url}/blob/{path}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            nodes.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def _CommitArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}

    # --- the other endpoints -------------------------------------------------------------

    def file_stream(self, run_id: str, body: dict[str, Any]) -> None:
        """Lines of history and summary, by offset, as the real server takes them."""
        with self._lock:
            run = self.runs[run_id]
            for name, part in body.get("files", {}).items():
                lines = [json.loads(line) for line in part["content"] if name.endswith("l")]
                if name == "wandb-history.jsonl":
                    run.history[part["offset"] :] = lines
                elif name == "wandb-summary.json":
                    run.summary = json.loads(part["content"][-1])
            run.preempting = run.preempting or bool(body.get("preempting"))
            if "exitcode" in body:
                run.exit_codes.append(body["exitcode"])
        self.on_history(run)

    def put(self, path: str, content: bytes) -> None:
        """A file of a run, or a blob of an artifact."""
        kind, owner, name = path.lstrip("/").split("/", 2)
        with self._lock:
            if kind == "upload":
                self.runs[owner].files[name] = content
            else:
                self.blobs[f"{owner}/{name}"] = content


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the test's business."""


class _Handler(BaseHTTPRequestHandler):
    stub: Stub
    protocol_version = "HTTP/1.1"

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self) -> None:
        body = self._body()
        stub = self.stub
        if stub.mode == "hang":
            stub.released.wait()
        if stub.mode == "refuse":
            self._send(401, b'{"errors": [{"message": "user is not logged in"}]}')
            return
        if stub.mode != "up":
            self._send(500, b'{"error": "out of order"}')
            return
        try:
            answer = self._route(body)
        except Exception as error:  # to the test, not to stderr
            stub.errors.append(f"{self.command} {self.path}: {error!r}")
            self._send(500, b"{}")
            return
        self._send(200, json.dumps(answer).encode())

    def _route(self, body: bytes) -> dict[str, Any]:
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            data = self.stub.graphql(asked["query"], asked.get("variables") or {})
            return {"data": data}
        if self.path.endswith("/file_stream"):
            self.stub.requests.append("file_stream")
            self.stub.file_stream(self.path.split("/")[-2], json.loads(body))
            return {"exitcode": None, "limits": {}}
        if self.command == "PUT":
            self.stub.requests.append("upload")
            self.stub.put(self.path.split("?")[0], body)
            return {}
        return {}

    def _send(self, code: int, body: bytes) -> None:
        try:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # the client is gone

    do_GET = do_POST = do_PUT = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
