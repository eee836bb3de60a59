"""A server for the requests that huggingface_hub sends to push and pull: repositories, commits, Git LFS, listings,
downloads, and tokens.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

OWNER, TOKEN = "ann", "hf_ann"
_LARGE = (".parquet", ".safetensors")
_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>dataset|model)s/{_NAME}"
_PLACE = rf"/(?:(?P<kind>dataset)s/)?{_NAME}"


@dataclass
class Repo:
    """A repository: its commits, oldest first, each name → content."""

    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b"*.parquet filter=lfs\n"}])

    def commit(self, files: Mapping[str, bytes]) -> str:
        self.commits.append(dict(files))
        return self.sha(-1)

    def sha(self, index: int) -> str:
        index %= len(self.commits)
        content = [(name, hashlib.sha256(data).hexdigest()) for name, data in sorted(self.commits[index].items())]
        return hashlib.sha1(json.dumps([index, content]).encode(), usedforsecurity=False).hexdigest()

    def at(self, revision: str) -> dict[str, bytes] | None:
        wanted = {"main": self.sha(-1), "HEAD": self.sha(-1)}.get(revision, revision)
        return next((files for index, files in enumerate(self.commits) if self.sha(index) == wanted), None)


class SharedHub(ThreadingHTTPServer):
    """A local hub.

    Attributes:
        repos: (kind, name) → repository.
        objects: sha256 → content of the large files that were uploaded.
        uploads: hex sha256 of each whole upload, in order.
        fault: from method and path: a status to refuse with, ``drop`` to break the connection midway, None to answer.
        listed: false facts in a listing: name of the file → facts.
        extra: names that listings have in addition to the existing files.
        asked: (method, path) of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.fault: Callable[[str, str], int | str | None] = lambda _method, _path: None
        self.listed: dict[str, dict[str, Any]] = {}
        self.extra: list[dict[str, Any]] = []
        self.asked: Counter[tuple[str, str]] = Counter()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Request(BaseHTTPRequestHandler):
    server: SharedHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked[self.command, path] += 1
        fault = self.server.fault(self.command, path)
        length = int(self.headers.get("Content-Length", 0))
        if fault == "drop":
            self.rfile.read(length // 2)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        self.body = self._chunked() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        if isinstance(fault, int):
            return self._refuse(fault, "", "as the test has it")
        for pattern, answer in _ANSWERS:
            if found := re.fullmatch(rf"{pattern}", f"{self.command} {path}"):
                return answer(self, **found.groupdict())
        return self._refuse(404, "", f"no such page: {path}")

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    @property
    def _is_owner(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repo(self, kind: str | None, name: str) -> Repo | None:
        """The repository, if it exists and is accessible; otherwise refuses."""
        repo = self.server.repos.get((kind or "model", name))
        if repo is None or (repo.private and not self._is_owner):
            self._refuse(404 if self._is_owner else 401, "RepoNotFound", "Repository not found")
            return None
        return repo

    def alive(self) -> None:
        self._json({})

    def create(self) -> None:
        wanted = json.loads(self.body)
        key = wanted.get("type", "model"), f"{wanted['organization']}/{wanted['name']}"
        if not self._is_owner:
            return self._refuse(401, "", "Invalid username or password.")
        if wanted["organization"] != OWNER:
            return self._refuse(
                403,
                "",
                f'You don\'t have the rights to create a repository under the namespace "{wanted["organization"]}"',
            )
        if key in self.server.repos:
            return self._send(
                json.dumps({"error": "You already created this repo", "url": self._url(*key)}).encode(), {}, 409
            )
        self.server.repos[key] = Repo(wanted.get("visibility") == "private")
        return self._json({"url": self._url(*key)})

    def _url(self, kind: str, name: str) -> str:
        return f"{self.server.address}/{'datasets/' if kind == 'dataset' else ''}{name}"

    def info(self, kind: str, name: str, revision: str | None = None) -> None:
        if repo := self._repo(kind, name):
            if repo.at(revision or "main") is None:
                return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            index = next(
                index for index in range(len(repo.commits)) if repo.commits[index] is repo.at(revision or "main")
            )
            self._json({"id": name, "sha": repo.sha(index), "private": repo.private, "tags": []})
        return None

    def preupload(self, kind: str, name: str) -> None:
        if repo := self._repo(kind, name):
            there = repo.commits[-1]
            files = [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith(_LARGE) else "regular"}
                for one in json.loads(self.body)["files"]
            ]
            self._json(
                {
                    "files": [
                        {**one, "shouldIgnore": False, "oid": _oid(one["path"], there.get(one["path"]))}
                        for one in files
                    ]
                }
            )

    def batch(self, kind: str | None, name: str) -> None:
        if self._repo(kind, name):
            objects = json.loads(self.body)["objects"]
            for one in (one for one in objects if one["oid"] not in self.server.objects):
                one["actions"] = {"upload": {"href": f"{self.server.address}/upload/{one['oid']}", "header": {}}}
            self._json({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._refuse(400, "", "another content")
        self.server.objects[oid] = self.body
        self.server.uploads.append(oid)
        return self._json({})

    def commit(self, kind: str, name: str) -> None:
        if (repo := self._repo(kind, name)) is None:
            return None
        files = dict(repo.commits[-1])
        for line in map(json.loads, self.body.splitlines()):
            key, value = line["key"], line["value"]
            if key == "header" and value.get("parentCommit", repo.sha(-1)) != repo.sha(-1):
                return self._refuse(412, "", "A commit has happened since. Please refresh and try again.")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        made = repo.commit(files)
        return self._json({"commitUrl": f"{self.server.address}/{name}/commit/{made}", "commitOid": made})

    def tree(self, kind: str, name: str, revision: str) -> None:
        if repo := self._repo(kind, name):
            listed = [
                {"type": "file", "path": path, **_facts(path, data), **self.server.listed.get(path, {})}
                for path, data in (repo.at(revision) or {}).items()
            ]
            self._json([*listed, *self.server.extra])

    def resolve(self, kind: str | None, name: str, revision: str, file: str) -> None:
        if repo := self._repo(kind, name):
            data = (repo.at(revision) or {}).get(file)
            if data is None:
                return self._refuse(404, "EntryNotFound", f"no {file}")
            self._send(data, {"ETag": f'"{_oid(file, data)}"', "X-Repo-Commit": revision})
        return None

    def _json(self, content: Any) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(
            json.dumps({"error": message}).encode(),
            {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"},
            status,
        )

    def _send(self, data: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _facts(path: str, data: bytes) -> dict[str, Any]:
    facts: dict[str, Any] = {"size": len(data), "oid": _git(data)}
    return (
        {**facts, "lfs": {"oid": _oid(path, data), "size": len(data), "pointerSize": 130}}
        if path.endswith(_LARGE)
        else facts
    )


def _oid(path: str, data: bytes | None) -> str | None:
    """The hub's id for a file's content: its sha256 if it is large, otherwise its git id."""
    return None if data is None else hashlib.sha256(data).hexdigest() if path.endswith(_LARGE) else _git(data)


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


_ANSWERS: list[tuple[str, Callable[..., None]]] = [
    (r"HEAD /?", _Request.alive),
    (r"POST /api/repos/create", _Request.create),
    (r"POST /api/validate-yaml", _Request.alive),
    (rf"GET {_API}", _Request.info),
    (rf"GET {_API}/revision/(?P<revision>.+)", _Request.info),
    (rf"GET {_API}/tree/(?P<revision>[^/]+)", _Request.tree),
    (rf"POST {_API}/preupload/main", _Request.preupload),
    (rf"POST {_API}/commit/main", _Request.commit),
    (rf"POST {_PLACE}\.git/info/lfs/objects/batch", _Request.batch),
    (r"PUT /upload/(?P<oid>[0-9a-f]+)", _Request.upload),
    (rf"(?:GET|HEAD) {_PLACE}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", _Request.resolve),
]
