"""``python -m envlock``; also ``python FOLDER/envlock`` on a copy that pip put into a folder of its own."""

import sys

if not __package__:
    # Run by its folder, as `pip install --target` leaves it: the parent is where packages are found.
    sys.path[0] = sys.path[0].rpartition("/")[0] or "."

from envlock.cli import main

if __name__ == "__main__":
    main()
