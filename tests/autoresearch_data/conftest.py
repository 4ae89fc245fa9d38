"""A file server on loopback that can misbehave in the ways real ones do."""

import hashlib
import io
import socket
import struct
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


class FileServer:
    """files: path -> bytes.  faults: path -> list of faults, one used up per GET of that path.

    A fault is a function (handler, content, first byte asked for) that answers in the place of the server.
    requests: every GET as (path, Range header).
    """

    def __init__(self):
        self.files = {}
        self.faults = defaultdict(list)
        self.requests = []
        self.ignore_ranges = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_HEAD(self):
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                server.answer(self)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def etag(self, content):
        return f'"{hashlib.md5(content).hexdigest()}"'

    def answer(self, handler):
        path, asked = urlsplit(handler.path).path, handler.headers.get("Range")
        self.requests.append((handler.path, asked))
        content = self.files.get(path, self.files.get(handler.path))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if self.faults[path]:
            return self.faults[path].pop(0)(handler, content, start)
        if content is None:
            return self.status(404)(handler, content, start)
        if callable(content):
            return content(handler)
        unchanged = handler.headers.get("If-Range") in (None, self.etag(content))
        if start and unchanged and not self.ignore_ranges:
            if start >= len(content):
                return self.status(416, **{"Content-Range": f"bytes */{len(content)}"})(handler, content, start)
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            start = 0
            handler.send_response(200)
        self.send(handler, content, start, len(content) - start)

    def send(self, handler, content, start, announced):
        handler.send_header("Content-Length", str(announced))
        handler.send_header("ETag", self.etag(content))
        handler.end_headers()
        handler.wfile.write(content[start:])

    @staticmethod
    def parquet(texts, **columns):
        """A parquet file with column `text`, as bytes."""
        stream = io.BytesIO()
        pq.write_table(pa.table({"text": texts, **columns}), stream, row_group_size=200)
        return stream.getvalue()

    @staticmethod
    def status(code, **headers):
        """Fault: answer with a status and no content."""

        def fault(handler, content, start):
            handler.send_response(code)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        return fault

    @staticmethod
    def cut_after(count, reset=False):
        """Fault: announce everything, send `count` bytes from where it was asked to start, then drop the connection."""

        def fault(handler, content, start):
            handler.send_response(206 if start else 200)
            if start:
                handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            handler.send_header("Content-Length", str(len(content) - start))
            handler.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
            handler.end_headers()
            handler.wfile.write(content[start : start + count])
            handler.wfile.flush()
            if reset:
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR) if not reset else handler.connection.close()

        return fault


@pytest.fixture
def file_server():
    server = FileServer()
    yield server
    server.http.shutdown()
    server.http.server_close()
