"""The file tree of an image: what each layer adds and takes away, laid one over the other.

OCI image specification, "Image Layer Filesystem Changeset": whiteouts (.wh.x) and opaque folders
(.wh..wh..opq) hide what lower layers hold, never what their own layer brings.

A million entries must fit in 200 MiB, so a node is as small as Python allows: a folder is a dict, a
symbolic link its text, a regular file one number that stands for its layer and its row in that layer's
arrays.
"""

import errno
import os
from array import array
from collections.abc import Callable
from typing import Any

from envlock.roots.image.errors import ImageError
from envlock.roots.image.tar import FILE, FOLDER, HARD_LINK, LINK, Member

LINK_LIMIT = 40
"""Links followed in one path at most, as in Linux (path_resolution(7))."""
DEPTH_LIMIT = 256
"""Folders below one another at most; real trees have some sixty."""
LOOSE_LIMIT = 50_000
"""Hard links to a file of a lower layer at most; tools that write layers copy the file instead."""

UNWANTED, HIDDEN, SPARSE, LOST = -1, -2, -3, -4
"""In place of an offset: nobody asks for the content, an upper layer hides it, it is stored sparse, or it
is a hard link whose file is in no layer."""

WHITEOUT = None
OTHER = False
"""A device, a named pipe or a socket."""

Node = Any
"""Folder | str (a symbolic link's text) | int (a file) | HardLink | OTHER | WHITEOUT"""


class HardLink:
    """A hard link whose file was not in its own layer so far."""

    __slots__ = ("target",)

    def __init__(self, target: str) -> None:
        self.target = target


class Folder(dict[str, Node]):
    """Names and nodes; knows whether it hides the folder of that name in lower layers."""

    __slots__ = ("dead", "explicit", "opaque")

    def __init__(self) -> None:
        super().__init__()
        self.opaque = False
        self.explicit = False
        """stated by an entry of its own, not only the parent of one"""
        self.dead = False
        """replaced within its own layer"""


def clean(name: str) -> str:
    """Return a member's name as a relative path without ".", ".." or doubled slashes.

    Raises ImageError where the name leads out of the image.
    """
    if name and name[0] not in "/." and "//" not in name and "/." not in name:
        return name[:-1] if name[-1] == "/" else name
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                raise ImageError(f"names a path outside the image ({name[:200]!r})")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


class Layer:
    """One layer's tree, filled member by member, and the sizes, times and places of its files."""

    def __init__(self, number: int, charge: Callable[[int], None]) -> None:
        self.number = number
        self.top = Folder()
        self.size = array("q")
        self.mtime = array("q")
        self.offset = array("q")
        """where the content lies, or UNWANTED, SPARSE, LOST"""
        self.loose: list[str] = []
        """targets of hard links into lower layers"""
        self.taken: list[tuple[str, int]] = []
        """path and number of files that a hard link of the same layer gives another name"""
        self._folders: dict[str, Folder] = {"": self.top}
        self._charge = charge
        """told how many entries there are more; raises ImageError when they are too many"""

    def close(self) -> None:
        """Forget what only filling needs."""
        self._folders = {}

    def add(self, path: str, member: Member, offset: int) -> None:
        """Add a member at a clean path; offset is where a regular file's content lies."""
        self._charge(1)
        if not path:
            return
        parent, _, name = path.rpartition("/")
        folder = self._folders.get(parent)
        if folder is None or folder.dead:
            folder = self._folder(parent)
        if name.startswith(".wh."):
            self._whiteout(folder, name)
            return
        if len(name) > 255 and len(name.encode("utf-8", "surrogateescape")) > 255:
            raise ImageError(f"holds a name of more than 255 bytes ({name[:60]!r}...)")
        kind = member.kind
        if kind == FOLDER:
            self._subfolder(folder, path, name).explicit = True
            return
        node: Node
        if kind == FILE:
            node = self._file(member.size, member.mtime, offset)
        elif kind == LINK:
            node = member.target
        elif kind == HARD_LINK:
            node = self._hard_link(member.target)
            if isinstance(node, int) and node is not OTHER and self.offset[node & 0xFFFFFFFF] < 0:
                self.taken.append((path, node))
        else:
            node = OTHER
        held = folder.get(name)
        if isinstance(held, Folder):
            _bury(held)
        folder[name] = node

    def lost(self) -> int:
        """Return the number of a file whose content is nowhere to be found."""
        return self._file(0, 0, LOST)

    def _file(self, size: int, mtime: int, offset: int) -> int:
        self.size.append(size)
        self.mtime.append(mtime)
        self.offset.append(offset)
        return self.number << 32 | len(self.size) - 1

    def _hard_link(self, target: str) -> Node:
        path = clean(target)
        parent, _, name = path.rpartition("/")
        folder = self._folders.get(parent)
        held = None if folder is None or folder.dead else folder.get(name)
        if held is not None and not isinstance(held, Folder):
            return held
        if len(self.loose) >= LOOSE_LIMIT:
            raise ImageError(f"holds more than {LOOSE_LIMIT} hard links into lower layers")
        self.loose.append(path)
        return HardLink(path)

    def _subfolder(self, folder: Folder, path: str, name: str) -> Folder:
        held = folder.get(name)
        if isinstance(held, Folder):
            return held
        made = Folder()
        self._charge(1)
        made.opaque = held is WHITEOUT and name in folder
        folder[name] = made
        self._folders[path] = made
        return made

    def _folder(self, path: str) -> Folder:
        """Return the folder at a path, made where it is missing; a link of this layer is followed."""
        folders = [self.top]
        pending = path.split("/")[::-1]
        names: list[str] = []
        followed = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if names:
                    names.pop()
                    folders.pop()
                continue
            held = folders[-1].get(name)
            if isinstance(held, str):
                followed += 1
                if followed <= LINK_LIMIT:
                    if held.startswith("/"):
                        del names[:], folders[1:]
                    pending.extend(held.split("/")[::-1])
                    continue
            names.append(name)
            if len(names) > DEPTH_LIMIT:
                raise ImageError(f"holds folders more than {DEPTH_LIMIT} deep")
            folders.append(self._subfolder(folders[-1], "/".join(names), name))
        return folders[-1]

    def _whiteout(self, folder: Folder, name: str) -> None:
        if name == ".wh..wh..opq":
            folder.opaque = True
            return
        hidden = name[4:]
        if name.startswith(".wh..wh.") or hidden in ("", ".", ".."):
            return  # aufs' own records
        held = folder.get(hidden)
        if isinstance(held, Folder):
            held.opaque = True
        elif held is None:
            folder[hidden] = WHITEOUT

    def hides(self, path: str) -> bool:
        """Tell whether what lower layers hold at a path cannot be seen through this one."""
        folder = self.top
        parent, _, name = path.rpartition("/")
        if parent:
            for part in parent.split("/"):
                if folder.opaque:
                    return True
                held = folder.get(part, folder)
                if held is folder:
                    return False
                if not isinstance(held, Folder):
                    # A file or whiteout hides all below it; a link may be followed.
                    return not isinstance(held, str)
                folder = held
        return folder.opaque or name in folder


def _bury(folder: Folder) -> None:
    """Mark a folder and all below it as replaced; each is marked once."""
    pending = [folder]
    while pending:
        buried = pending.pop()
        buried.dead = True
        pending.extend(node for node in buried.values() if isinstance(node, Folder) and not node.dead)


def overlay(top: Folder, layer: Layer) -> list[tuple[str, int]]:
    """Lay a layer over the tree below it, in place.

    Returns the path and number of each file that a hard link took from a lower layer.
    """
    loose: list[tuple[Folder, str, str, str]] = []
    pending = [(top, layer.top, "")]
    while pending:
        into, upper, path = pending.pop()
        if upper.opaque:
            into.clear()
        for name, node in upper.items():
            if node is WHITEOUT:
                into.pop(name, None)
            elif isinstance(node, Folder):
                below = f"{path}/{name}"
                held = into.get(name)
                if isinstance(held, str) and not node.explicit:
                    # Files put below a link of a lower layer, with no entry for the folder itself.
                    held = find(top, below)
                if not isinstance(held, Folder):
                    held = into[name] = Folder()
                pending.append((held, node, below))
            elif isinstance(node, HardLink):
                loose.append((into, name, f"{path}/{name}", node.target))
            else:
                into[name] = node
    taken = []
    for folder, name, path, target in loose:
        found = find(top, target, last=False)
        if isinstance(found, int) and found is not OTHER:
            taken.append((path, found))
        elif not isinstance(found, str) and found is not OTHER:
            found = layer.lost()
        folder[name] = found
    return taken


def find(top: Folder, path: str, last: bool = True) -> Node:
    """Return the node at a path, links followed (the last part's only if asked), or None."""
    try:
        return walk(top, path, last)[1]
    except OSError:
        return None


def walk(top: Folder, path: str, last: bool = True) -> tuple[list[str], Node]:
    """Resolve a path inside the tree: the names that lead there without links, and the node or None.

    Parts that do not exist stay in the names. Raises OSError (ELOOP) after LINK_LIMIT links.
    """
    names: list[str] = []
    nodes: list[Node] = [top]
    pending = [part for part in reversed(path.split("/")) if part and part != "."]
    followed = 0
    while pending:
        name = pending.pop()
        if name == "..":
            if names:
                names.pop()
                nodes.pop()
            continue
        above = nodes[-1]
        node = above.get(name) if isinstance(above, Folder) else None
        if isinstance(node, str) and (last or pending):
            followed += 1
            if followed > LINK_LIMIT:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if node.startswith("/"):
                del names[:], nodes[1:]
            pending.extend(part for part in reversed(node.split("/")) if part and part != ".")
            continue
        names.append(name)
        nodes.append(node)
    return names, nodes[-1]
