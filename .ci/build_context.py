"""Copies what the image's build would get of this repository, as .dockerignore has it."""

import fnmatch
import os
import shutil
import subprocess
import sys


def ignored(path, patterns):
    """Whether a path is left out; of the patterns that fit it or a folder that it is in, the last one counts."""
    parts = path.split("/")
    folders = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    left_out = False
    for pattern in patterns:
        wanted = pattern.startswith("!")
        # In these patterns * ends at a slash.
        glob = pattern.lstrip("!")
        fits = any(folder.count("/") == glob.count("/") and fnmatch.fnmatchcase(folder, glob) for folder in folders)
        if fits:
            left_out = not wanted
    return left_out


def main(target):
    with open(".dockerignore") as file:
        patterns = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True,
                            capture_output=True, text=True).stdout.split("\0")
    copied = 0
    for path in filter(None, listed):
        if ignored(path, patterns) or not os.path.isfile(path):
            continue
        os.makedirs(os.path.join(target, os.path.dirname(path)), exist_ok=True)
        shutil.copy(path, os.path.join(target, path))
        copied += os.path.getsize(path)
    for path in ("Cargo.toml", "Cargo.lock", "config.toml", "src/main.rs"):
        assert os.path.isfile(os.path.join(target, path)), f"{path} is left out"
    assert not os.path.exists(os.path.join(target, ".git"))
    assert copied < 64 * 1024 * 1024, f"{copied} bytes"


main(sys.argv[1])
