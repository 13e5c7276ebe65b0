"""A web server on loopback that fails so many times for each file, then serves it; a process of its own.

GDAL holds the interpreter while it waits, so a thread of the same process could not answer it. Prints its port; a
path begins with the number of failures and their kind (``3-503/tile.tif``, ``2-reset/tile.tif``).
"""

import sys
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

failed: Counter[str] = Counter()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder = Path()

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET(with_body=False)

    def do_GET(self, *, with_body=True):
        how, _, name = self.path.strip("/").partition("/")
        path = self.folder / name
        if not name or not path.is_file():
            return self.answer(404)
        times, _, kind = how.partition("-")
        if failed[self.path] < int(times):
            failed[self.path] += 1
            if kind == "reset":
                self.close_connection = True
                return self.connection.close()
            return self.answer(int(kind))
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        if wanted is None:
            return self.answer(200, data, with_body=with_body)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last or len(data)) + 1]
        extra = {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"}
        return self.answer(206, part, with_body=with_body, extra=extra)

    def answer(self, status, body=b"", *, with_body=True, extra=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Accept-Ranges": "bytes", **(extra or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


if __name__ == "__main__":
    # Not on import: the tests' doctests import every file.
    Handler.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
