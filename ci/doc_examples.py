#!/usr/bin/env python3
"""Counts the documentation examples that `cargo test` compiles, beside the public functions, by crate.

    ci/doc_examples.py              by crate, and in total
    ci/doc_examples.py --base REV   the same, with the figure of an earlier revision in brackets

An example is a block of Rust in fences (```, without `ignore` or another language) in a /// or //! comment of a src/
folder, or in a page (.md) that a file there includes. Functions are those declared with `pub fn`, methods among them;
the methods of traits have no `pub` and are not counted.
"""

import argparse
import io
import os
import posixpath
import re
import signal
import subprocess
import sys
import tarfile

FUNCTION = re.compile(r'^\s*pub (?:const |async |unsafe |extern "C" )*fn ', re.MULTILINE)
PAGE = re.compile(r'include_str!\("([^"]+\.md)"\)')
FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*(.*)$")
RUST = {"", "rust", "no_run", "should_panic", "compile_fail", "edition2021", "edition2024"}
COLUMNS = ["on items", "on modules", "in pages", "examples", "functions", "per 100"]


def examples(lines):
    """The number of fenced blocks that rustdoc compiles."""
    count, opened = 0, None
    for line in lines:
        fence = FENCE.match(line)
        if not fence:
            continue
        if opened is None:
            opened = fence[1]
            words = [word for word in re.split(r"[\s,]+", fence[2].strip()) if word]
            count += all(word in RUST for word in words)
        elif fence[1].startswith(opened) and not fence[2].strip():
            opened = None
    return count


def now():
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], capture_output=True, text=True, check=True)
    for path in listed.stdout.split("\0"):
        if path.endswith((".rs", ".md")) and os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                yield path, file.read()


def before(revision):
    archive = subprocess.run(["git", "archive", revision], capture_output=True, check=False)
    if archive.returncode != 0:
        sys.exit(archive.stderr.decode().strip())
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        for member in tar.getmembers():
            if member.isfile() and member.name.endswith((".rs", ".md")):
                yield member.name, tar.extractfile(member).read().decode("utf-8")


def table(files):
    files, rows = dict(files), {}
    for path, text in files.items():
        folder = re.match(r"(?:\w+/)?src/", path)
        if not path.endswith(".rs") or not folder or folder[0].startswith(("fuzz/", "tests/")):
            continue
        row = rows.setdefault(folder[0], dict.fromkeys(COLUMNS, 0))
        row["functions"] += len(FUNCTION.findall(text))
        for mark, column in [("///", "on items"), ("//!", "on modules")]:
            comments = (line.strip() for line in text.split("\n"))
            row[column] += examples(line[3:] for line in comments if line.startswith(mark))
        for page in PAGE.findall(text):
            page = posixpath.normpath(posixpath.join(posixpath.dirname(path), page))
            row["in pages"] += examples(files.get(page, "").split("\n"))
    rows["total"] = {name: sum(row[name] for row in rows.values()) for name in COLUMNS}
    for row in rows.values():
        row["examples"] = row["on items"] + row["on modules"] + row["in pages"]
        row["per 100"] = round(100 * row["examples"] / row["functions"]) if row["functions"] else 0
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", metavar="REV", help="a revision to show in brackets")
    arguments = parser.parse_args()
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    rows, base = table(now()), table(before(arguments.base)) if arguments.base else None
    lines = [["", *COLUMNS]]
    for name in sorted({*rows, *(base or {})}, key=lambda name: (name == "total", name)):
        cells = [str(rows[name][column]) if name in rows else "-" for column in COLUMNS]
        if base is not None:
            old = [str(base[name][column]) if name in base else "-" for column in COLUMNS]
            cells = [f"{new} ({old})" for new, old in zip(cells, old)]
        lines.append([name, *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print(line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:])), sep="  ")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    main()
