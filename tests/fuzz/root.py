"""A machine of a few files in memory, so that a probe can be run a thousand times a second."""

import errno
import io
import os

from envlock.probe.root import READ_LIMIT, Entry, Stat, TooLargeError, UnobservableError


class MemoryRoot:
    """The root protocol over a table of files; there are no links in it."""

    kind = "root"

    def __init__(self, files, environ=None):
        self.files = files
        self.environ = environ or {}
        self._folders = {"/": {}}
        for path in files:
            below, is_file = path, True
            while below != "/":
                folder, _, name = below.rpartition("/")
                folder = folder or "/"
                known = folder in self._folders
                self._folders.setdefault(folder, {})[name] = is_file
                if known:
                    break
                below, is_file = folder, False

    def _file(self, path):
        path = self.realpath(path)
        if path not in self.files:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self.files[path]

    def read(self, path, limit=READ_LIMIT):
        content = self._file(path)
        if len(content) > limit:
            raise TooLargeError(f"{path}: larger than {limit} bytes")
        return content

    def open(self, path):
        return io.BytesIO(self._file(path))

    def scan(self, path):
        path = self.realpath(path)
        if path not in self._folders:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return [
            Entry(name, not is_file, is_file, False) for name, is_file in sorted(self._folders[path].items())
        ]

    def stat(self, path):
        path = self.realpath(path)
        if path in self._folders:
            return Stat(4096, 0, 1, hash(path), True, False)
        return Stat(len(self._file(path)), 0, 1, hash(path), False, True)

    def readlink(self, path):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)

    def realpath(self, path):
        kept = []
        for part in path.split("/"):
            if part == "..":
                del kept[-1:]
            elif part not in ("", "."):
                kept.append(part)
        return "/" + "/".join(kept)

    def exists(self, path):
        return self.is_file(path) or self.is_dir(path)

    def is_dir(self, path):
        return self.realpath(path) in self._folders

    def is_file(self, path):
        return self.realpath(path) in self.files

    def filesystem_size(self, path):
        raise UnobservableError("memory")

    def run(self, command, timeout=5.0, limit=0):
        raise UnobservableError("nothing is run")

    def ask(self, question, arguments=(), timeout=10.0):
        raise UnobservableError("nobody to ask")
