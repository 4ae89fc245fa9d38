"""Downloads over HTTP: parallel, resumable by byte range, checked, and never half a file under its final name.

A file grows as `<name>.part`; `<name>.part.json` beside it holds the server's ETag, so that a download is only
continued if the file on the server is still the same one. It gets its final name after its size, its SHA-256 (where the
server states one) and its parquet footer are right; what it is then is noted beside it and checked in every later run.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoresearch_common.hashing import file_sha256
from autoresearch_common.reading import MOST_BYTES, parse_json, read_json
from autoresearch_data.downloaded import damage, keep_note, opens
from autoresearch_data.errors import DataFailure
from autoresearch_data.progress import Reporter, Stage

_CHUNK_BYTES = 1 << 18
_USER_AGENT = "autoresearch-kernel-lab"
# Answers that asking again may change; every other error status is final.
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
# Hugging Face states a large file's size and SHA-256 in the redirect that leads to its storage.
_LINKED_SIZE, _LINKED_HASH = "X-Linked-Size", "X-Linked-ETag"
_PASSING = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


@dataclass(frozen=True)
class Patience:
    """How long to insist. attempts: failures in a row without a new byte, before giving up. Times in seconds."""

    attempts: int = 6
    first_pause: float = 1.0
    longest_pause: float = 60.0
    timeout: float = 30.0

    def pause(self, failures: int, asked: str | None = None) -> float:
        """Pause after so many failures in a row: doubling, or what the server asked for if that is longer."""
        own = self.first_pause * 2 ** (failures - 1)
        wanted = float(asked) if asked and asked.isdigit() else 0.0
        return min(max(own, wanted), self.longest_pause)


@dataclass(frozen=True)
class Remote:
    """One file to fetch: from where, to where."""

    url: str
    path: Path


class _Retry(Exception):
    """This attempt failed and another may succeed. after: the server's Retry-After."""

    def __init__(self, reason: str, after: str | None = None) -> None:
        super().__init__(reason)
        self.after = after


class _KeepLinked(urllib.request.HTTPRedirectHandler):
    """Follows redirects and remembers the size and hash that the first of them states."""

    def __init__(self) -> None:
        self.linked: dict[str, str] = {}

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Any:
        for name in (_LINKED_SIZE, _LINKED_HASH):
            if headers.get(name):
                self.linked.setdefault(name, headers[name])
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download_all(
    remotes: list[Remote], reporter: Reporter, *, parallel: int = 4, patience: Patience | None = None
) -> None:
    """Fetch every file that is not there yet or is not what came, `parallel` at a time.

    Raises DataFailure with the address and reason of the first file that could not be had, and the path of one that is
    damaged; what the others have got so far stays, and the next call continues there.
    """
    damaged = _damaged([remote.path for remote in remotes if remote.path.is_file()], reporter, parallel)
    missing = [remote for remote in remotes if remote.path in damaged or not remote.path.is_file()]
    if not missing:
        return
    for path, what in damaged.items():
        reporter.note(f"{path} {what}: fetching it anew")
    stop = threading.Event()
    with reporter.stage(f"downloading {len(missing)} files", 0, "bytes") as stage:
        with ThreadPoolExecutor(parallel) as pool:
            jobs = {pool.submit(_Job(remote, stage, stop, patience or Patience()).run): remote for remote in missing}
            try:
                wait(jobs, return_when=FIRST_EXCEPTION)
            finally:
                # Where one failed, or at Ctrl-C, the others stop at their next chunk and keep their parts.
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        failures = [(error, jobs[job].path) for job in jobs if not job.cancelled() and (error := job.exception())]
        for error, path in sorted(failures, key=lambda failure: isinstance(failure[0], _Stopped)):
            if path in damaged and isinstance(error, DataFailure):
                raise DataFailure(f"{path} {damaged[path]}, and {error}") from error
            raise error


def _damaged(paths: list[Path], reporter: Reporter, parallel: int) -> dict[Path, str]:
    """What is wrong with the files of earlier runs; those that are whole are left out."""
    if not paths:
        return {}
    with reporter.stage(f"checking {len(paths)} downloaded files", len(paths), "files") as stage:

        def check(path: Path) -> tuple[Path, str | None]:
            found = damage(path)
            stage.advance(1)
            return path, found

        with ThreadPoolExecutor(parallel) as pool:
            return {path: what for path, what in pool.map(check, paths) if what}


class _Stopped(DataFailure):
    """Another download failed first."""


@dataclass
class _Job:
    remote: Remote
    stage: Stage
    stop: threading.Event
    patience: Patience
    counted: int = field(default=0, init=False)
    expected: int = field(default=0, init=False)
    etag: str | None = field(default=None, init=False)

    @property
    def part(self) -> Path:
        return self.remote.path.with_name(self.remote.path.name + ".part")

    @property
    def note(self) -> Path:
        return self.remote.path.with_name(self.remote.path.name + ".part.json")

    def run(self) -> None:
        self.remote.path.parent.mkdir(parents=True, exist_ok=True)
        failures = 0
        while True:
            before = self._size()
            try:
                self._attempt()
                return
            except _Retry as reason:
                failures = 1 if self._size() > before else failures + 1
                if failures >= self.patience.attempts:
                    raise DataFailure(f"cannot download {self.remote.url}: {reason}") from reason
                if self.stop.wait(self.patience.pause(failures, reason.after)):
                    raise _Stopped(f"download of {self.remote.url} was stopped") from None

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self) -> None:
        """Ask for what is missing, take it, check the whole. Raises _Retry where another attempt makes sense."""
        redirects = _KeepLinked()
        opener = urllib.request.build_opener(redirects)
        try:
            with opener.open(self._request(), timeout=self.patience.timeout) as response:
                total, self.etag = self._start(response)
                self._expect(total)
                self.note.write_text(json.dumps({"etag": self.etag}), encoding="utf-8")
                self._take(response)
        except urllib.error.HTTPError as error:
            self._refused(error)
            total = self._size()
        except _PASSING as error:
            raise _Retry(str(getattr(error, "reason", None) or error) or type(error).__name__) from error
        linked_size = redirects.linked.get(_LINKED_SIZE, "")
        stated = redirects.linked.get(_LINKED_HASH, "")
        sha256 = self._check(int(linked_size) if linked_size.isdigit() else total, stated)
        with open(self.part, "rb+") as stream:
            os.fsync(stream.fileno())
        keep_note(self.remote.path, self.etag, self._size(), sha256)
        os.replace(self.part, self.remote.path)
        self.note.unlink(missing_ok=True)

    def _request(self) -> urllib.request.Request:
        request = urllib.request.Request(self.remote.url, headers={"User-Agent": _USER_AGENT})
        self.etag = None
        with suppress(OSError, ValueError, KeyError, TypeError):
            self.etag = read_json(self.note)["etag"]
        if self._size() and self.etag:
            request.add_header("Range", f"bytes={self._size()}-")
            # A server whose file has changed ignores the range and sends the whole new file.
            request.add_header("If-Range", self.etag)
        elif self._size():
            self.part.unlink()
        return request

    def _start(self, response: Any) -> tuple[int | None, str | None]:
        """Prepare the part for what the server sends; returns (size of the whole file, its ETag) as far as known."""
        etag = response.headers.get("ETag")
        etag = etag if etag and not etag.startswith("W/") else None  # a weak one does not vouch for the bytes
        if response.status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not span or int(span[1]) != self._size():
                self._discard()
                raise _Retry("the server sent another range than the one asked for")
            self._count(self._size())
            return int(span[2]), etag
        self._discard()
        length = response.headers.get("Content-Length")
        return (int(length) if length else None), etag

    def _take(self, response: Any) -> None:
        with open(self.part, "ab") as stream:
            # read1 returns what has arrived; read would lose it all when the connection breaks within a chunk.
            while chunk := response.read1(_CHUNK_BYTES):
                stream.write(chunk)
                self._count(self.counted + len(chunk))
                if self.stop.is_set():
                    raise _Stopped(f"download of {self.remote.url} was stopped")

    def _refused(self, error: urllib.error.HTTPError) -> None:
        """Deal with an error status; returns only for 416 when the part is the whole file."""
        if error.code == 416:
            if error.headers.get("Content-Range") == f"bytes */{self._size()}":
                return
            self._discard()
            raise _Retry("the server has another file than before")
        if error.code in _TRANSIENT:
            raise _Retry(f"HTTP {error.code} {error.reason}", error.headers.get("Retry-After"))
        raise DataFailure(f"cannot download {self.remote.url}: HTTP {error.code} {error.reason}")

    def _check(self, size: int | None, stated_hash: str) -> str:
        """SHA-256 of the part, if it is the whole file. Raises _Retry otherwise."""
        if size is not None and self._size() < size:
            raise _Retry(f"the connection ended after {self._size()} of {size} bytes")
        if size is not None and self._size() > size:
            self._discard()
            raise _Retry(f"got more than the {size} bytes that were announced")
        expected = stated_hash.strip('"').lower()
        found = file_sha256(self.part)
        if re.fullmatch(r"[0-9a-f]{64}", expected) and found != expected:
            self._discard()
            raise _Retry("the content does not have the hash that the server states")
        if not opens(self.part, self.remote.path.name):
            self._discard()
            raise _Retry("what came is no complete parquet file")
        return found

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self._count(0)

    def _count(self, size: int) -> None:
        self.stage.advance(size - self.counted)
        self.counted = size

    def _expect(self, total: int | None) -> None:
        self.stage.grow((total or 0) - self.expected)
        self.expected = total or 0


def fetch_json(url: str, patience: Patience | None = None) -> tuple[Any, str | None]:
    """GET a JSON document: (value, address of the next page or None). Raises DataFailure where it cannot be had."""
    patience = patience or Patience()
    failures = 0
    while True:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": _USER_AGENT, "Accept": "application/json"})
            with urllib.request.urlopen(request, timeout=patience.timeout) as response:
                following = re.search(r'<([^>]+)>;\s*rel="next"', response.headers.get("Link", ""))
                return parse_json(response.read(MOST_BYTES), url), following[1] if following else None
        except (*_PASSING, ValueError) as error:
            failures += 1
            status = error.code if isinstance(error, urllib.error.HTTPError) else None
            if (status is not None and status not in _TRANSIENT) or failures >= patience.attempts:
                reason = f"HTTP {status}" if status else getattr(error, "reason", None) or error
                raise DataFailure(f"cannot read {url}: {reason}") from error
            time.sleep(patience.pause(failures))


def answers(url: str, timeout: float = 3.0) -> bool:
    """Whether a server answers at `url` at all, within `timeout` seconds per connection attempt."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": _USER_AGENT}, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (*_PASSING, ValueError):
        return False
