"""A small server on this machine that speaks the HTTP of the Hugging Face Hub, as far as pushing
needs it, so that the real client library is tested against something."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml


class Hub:
    """Repositories by "kind/name": their files, whether they are private, what was uploaded."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.commits = 0
        self.refuse: int | None = None
        self.fail_commits = 0
        self.endpoint = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Gives the status and the JSON of an answer; None is an empty one."""
        if self.refuse:
            return self.refuse, {"error": "refused"}
        for pattern, answer in self._routes(method).items():
            if found := re.fullmatch(pattern, path):
                return answer(*found.groups(), body)
        return 404, {"error": f"no route for {method} {path}"}

    def _routes(self, method: str) -> dict[str, Any]:
        name = r"(datasets|models)/([\w.-]+/[\w.-]+)"
        return {
            "POST": {
                "/api/repos/create": self._create,
                "/api/validate-yaml": self._validate,
                rf"/api/{name}/preupload/main": self._preupload,
                rf"/api/{name}/commit/main": self._commit,
                r"/(datasets/)?([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch": self._batch,
            },
            "PUT": {r"/objects/(\w+)": self._store},
            "GET": {
                rf"/api/{name}": self._info,
                rf"/api/{name}/revision/main": self._info,
                rf"/api/{name}/tree/main": self._tree,
            },
        }[method]

    def _create(self, body: bytes) -> tuple[int, Any]:
        asked = json.loads(body)
        kind = f"{asked.get('type', 'model')}s"
        name = f"{asked['organization']}/{asked['name']}"
        prefix = "datasets/" if kind == "datasets" else ""
        url = f"{self.endpoint}/{prefix}{name}"
        if f"{kind}/{name}" in self.files:
            return 409, {"error": "You already created this repo", "url": url}
        self.files[f"{kind}/{name}"] = {".gitattributes": b""}
        self.private[f"{kind}/{name}"] = asked.get("visibility") == "private"
        return 200, {"url": url, "name": name}

    def _validate(self, body: bytes) -> tuple[int, Any]:
        content = json.loads(body)["content"]
        header = yaml.safe_load(content.split("---\n")[1])
        wrong = [] if isinstance(header.get("tags"), list) else [{"message": "no tags"}]
        return (400 if wrong else 200), {"errors": wrong, "warnings": []}

    def _info(self, kind: str, name: str, body: bytes) -> tuple[int, Any]:
        key = f"{kind}/{name}"
        if key not in self.files:
            return 404, {"error": "Repository not found"}
        siblings = [{"rfilename": path} for path in self.files[key]]
        known = {"id": name, "private": self.private[key], "sha": "0" * 40, "siblings": siblings}
        return 200, known | {"tags": [], "downloads": 0, "likes": 0}

    def _tree(self, kind: str, name: str, body: bytes) -> tuple[int, Any]:
        files = self.files[f"{kind}/{name}"]
        return 200, [
            {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
            for path, content in files.items()
        ]

    def _preupload(self, kind: str, name: str, body: bytes) -> tuple[int, Any]:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(("parquet", "tensors")) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        return 200, {"files": files}

    def _batch(self, prefix: str, name: str, body: bytes) -> tuple[int, Any]:
        asked = json.loads(body)["objects"]
        for each in asked:
            if each["oid"] not in self.objects:
                href = f"{self.endpoint}/objects/{each['oid']}"
                each["actions"] = {"upload": {"href": href}}
        return 200, {"transfer": "basic", "objects": asked}

    def _store(self, oid: str, body: bytes) -> tuple[int, Any]:
        assert hashlib.sha256(body).hexdigest() == oid
        self.objects[oid] = body
        self.uploads.append(oid)
        return 200, None

    def _commit(self, kind: str, name: str, body: bytes) -> tuple[int, Any]:
        if self.fail_commits:
            self.fail_commits -= 1
            return 403, {"error": "try later"}
        files = self.files[f"{kind}/{name}"]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
        self.commits += 1
        url = f"{self.endpoint}/{name}/commit/{self.commits}"
        return 200, {"commitUrl": url, "commitOid": "1" * 40, "success": True}


@contextmanager
def running() -> Iterator[Hub]:
    """Serves a Hub on a free port of this machine."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, values = hub.answer(self.command, self.path.partition("?")[0], body)
            content = b"" if values is None else json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _do

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
