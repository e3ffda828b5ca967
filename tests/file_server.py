"""A web server with the files of a folder, and with the faults of real servers."""

import http.server
import re
import threading
from collections import Counter
from contextlib import contextmanager

import yaml

from mmvis_plugin.apis.releases import find_release
from mmvis_plugin.config import find_config


class FileServer(http.server.ThreadingHTTPServer):
    """Serves files at ``address``.

    A name that contains ``page`` gives a web page and ``huge`` announces a petabyte. With ``cuts``
    an answer to a name ends after so many bytes, once for each entry.

    Attributes:
        requests: Path -> Range header of each request, None for the whole file.
        ranges: Whether a part of a file can be asked for.
        tag: The ETag of all files; None for none.
    """

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.cuts = {}
        self.requests = {}
        self.ranges, self.tag = True, '"v1"'
        self.sent = Counter()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path.lstrip("/").partition("?")[0]
        server.requests.setdefault(name, []).append(self.headers.get("Range"))
        file = server.folder / name
        if "page" in name:
            self._answer(200, b"<!DOCTYPE html><p>Please sign in", type_="text/html; charset=utf-8")
        elif "huge" in name:
            self._answer(200, b"begin", size=10**15)
        elif not file.is_file():
            self.send_error(404)
        else:
            self._give(name, file.read_bytes())

    def _give(self, name, content):
        start, code = 0, 200
        same = self.headers.get("If-Range") in (None, self.server.tag)
        if self.server.ranges and same and (asked := self.headers.get("Range")):
            start, code = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]), 206
        cuts = self.server.cuts.get(name)
        end = cuts.pop(0) if cuts else len(content)
        self.server.sent[name] += max(end - start, 0)
        self._answer(code, content[start:end], size=len(content) - start)

    def _answer(self, code, content, size=None, type_="application/octet-stream"):
        self.send_response(code)
        self.send_header("Content-Type", type_)
        self.send_header("Content-Length", str(len(content) if size is None else size))
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@contextmanager
def serving(folder):
    with FileServer(folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def published_at(server, folder, config, file, **entry):
    """A copy of a config's entry in its metafile whose weights are on a server.

    Args:
        server: Where the file is.
        folder: In which the copy is made.
        config: Path or name of the config.
        file: Name of the weights on the server.
        entry: What else differs in the entry; None takes a line out.

    Returns:
        Path: The config that goes with it.
    """
    release = find_release(find_config(config))
    copy = folder / release.entry["Config"]
    copy.parent.mkdir(parents=True)
    copy.write_text(f"_base_ = {str(release.config)!r}\n")
    entry = release.entry | {"Weights": f"{server.address}/{file}", "Mirrors": []} | entry
    entry = {key: value for key, value in entry.items() if value is not None}
    content = {"Collections": [release.collection], "Models": [entry]}
    (copy.parent / "metafile.yml").write_text(yaml.safe_dump(content))
    return copy
