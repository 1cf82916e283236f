#!/usr/bin/env python3
"""Counts words in the comments and documents of the workspace, per 10,000 words.

    ci/words.py                     by crate, and in total
    ci/words.py --base REV          the same, with the figure of an earlier revision in brackets
    ci/words.py --list WORD         where a word stands, with file and line
    ci/words.py --tree DIR          the same figures for another source tree, such as an unpacked crate
    ci/words.py --with-code         code in fences counts as prose

Counted are line, block and doc comments of .rs files, and .md files. A word is a run of letters and apostrophes. Code
in fences (```) is counted apart and is no prose, unless `--with-code` is given; names in single backticks are counted as
words. A phrase is found across the end of a line. `sources` are the files in src/ folders of all crates without those of
tests.
"""

import argparse
import io
import os
import re
import signal
import subprocess
import sys
import tarfile

WORD = re.compile(r"[A-Za-z']+")
COLUMNS = {
    "it": r"it",
    "what": r"what",
    "nobody..": r"nobody|somebody|whoever",
    "for example": r"for example",
    "returns": r"returns",
    "you": r"you",
    "because": r"because",
}
PATTERNS = {name: re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE) for name, pattern in COLUMNS.items()}
# The sources of other crates by this script (`--tree`), as published: first without the code in
# fences, then with it.
OTHERS = {
    False: {
        "bytes 1.12.2": (12384, 7169, "64.6 2.4 0.0 3.2 60.6 2.4 5.7".split()),
        "tower 0.5.3": (15054, 5152, "69.1 3.3 0.7 9.3 38.5 29.9 6.6".split()),
        "bumpalo 3.20.3": (21995, 6254, "89.1 1.8 0.5 4.5 38.2 32.7 20.5".split()),
        "zerocopy 0.8.63": (74356, 9805, "71.0 5.2 0.0 3.8 21.0 12.2 19.9".split()),
    },
    True: {
        "bytes 1.12.2": (19553, 0, "41.4 1.5 0.0 2.0 38.4 1.5 3.6".split()),
        "tower 0.5.3": (20206, 0, "58.4 4.0 0.5 6.9 30.7 22.8 5.4".split()),
        "bumpalo 3.20.3": (28249, 0, "72.2 1.4 0.4 3.5 29.7 25.8 17.0".split()),
        "zerocopy 0.8.63": (84161, 0, "63.4 4.6 0.0 3.3 18.5 10.8 17.9".split()),
    },
}
# What the review of revision 3abfbc9 measured in ten trees (tower, bytes, hashbrown and others), lowest and highest, with the
# code in fences; it counted 55,918 words in the sources here. Its figure for `nobody..` is that of `nobody` alone.
REVIEW = {"it": "37-64", "what": "0.4-11", "nobody..": "0-0.4", "returns": "31-47", "you": "1.5-93"}
LITERAL = re.compile(r"""b?r(?P<h>\#*)".*?"(?P=h)|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^\\'])'""", re.DOTALL | re.VERBOSE)


def comments(text):
    """The comments of a Rust file as (line, text), without their marks."""
    found, i, line = [], 0, 1
    while i < len(text):
        if text.startswith("//", i):
            end = text.find("\n", i)
            end = len(text) if end < 0 else end
            found.append((line, re.sub(r"^//[/!]?", "", text[i:end])))
        elif text.startswith("/*", i):
            depth, end = 1, i + 2
            while end < len(text) and depth:
                step = {"/*": 1, "*/": -1}.get(text[end : end + 2], 0)
                depth, end = depth + step, end + (2 if step else 1)
            found += [(line + n, part) for n, part in enumerate(text[i + 2 : end - 2].split("\n"))]
        else:
            within_word = i > 0 and (text[i - 1].isalnum() or text[i - 1] == "_")
            literal = None if within_word and text[i] in "rb" else LITERAL.match(text, i)
            end = literal.end() if literal else i + 1
        line += text.count("\n", i, end)
        i = end
    return found


def prose(lines, with_code=False):
    """Splits lines into prose and the number of words in fenced code, which `with_code` takes for prose."""
    text, code, fenced = [], 0, False
    for number, line in lines:
        if line.strip().startswith("```"):
            fenced = not fenced
        elif fenced and not with_code:
            code += len(WORD.findall(line))
        else:
            text.append((number, line))
    return text, code


class Count:
    def __init__(self):
        self.words, self.code, self.hits = 0, 0, dict.fromkeys(COLUMNS, 0)

    def add(self, other):
        self.words, self.code = self.words + other.words, self.code + other.code
        self.hits = {name: self.hits[name] + other.hits[name] for name in COLUMNS}

    @classmethod
    def of(cls, path, text, with_code):
        count = cls()
        lines, count.code = prose(lines_of(path, text), with_code)
        joined = " ".join(line.strip() for _, line in lines)
        count.words = len(WORD.findall(joined))
        count.hits = {name: len(pattern.findall(joined)) for name, pattern in PATTERNS.items()}
        return count


def lines_of(path, text):
    return comments(text) if path.endswith(".rs") else list(enumerate(text.split("\n"), 1))


def now(tree):
    """Path and text of each file: those that git tracks, or all of a folder that is no checkout."""
    listed = subprocess.run(["git", "-C", tree, "ls-files", "-z"], capture_output=True, text=True, check=False)
    inside = os.path.isdir(os.path.join(tree, ".git")) or os.path.isfile(os.path.join(tree, ".git"))
    if listed.returncode == 0 and inside:
        paths = [path for path in listed.stdout.split("\0") if path]
    else:
        paths = [os.path.relpath(os.path.join(at, name), tree) for at, _, names in os.walk(tree) for name in names]
    for path in paths:
        full = os.path.join(tree, path)
        if path.endswith((".rs", ".md")) and os.path.isfile(full) and not os.path.islink(full):
            with open(full, encoding="utf-8", errors="replace") as file:
                yield path, file.read()


def before(tree, revision):
    archive = subprocess.run(["git", "-C", tree, "archive", revision], capture_output=True, check=False)
    if archive.returncode != 0:
        sys.exit(archive.stderr.decode().strip())
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        for member in tar.getmembers():
            if member.isfile() and member.name.endswith((".rs", ".md")):
                yield member.name, tar.extractfile(member).read().decode("utf-8", "replace")


def row(path):
    """The rows that a file counts for."""
    if path.endswith(".md"):
        return "pages (.md)"
    parts = path.split("/")
    place = parts.index("src") if "src" in parts else None
    if place is not None and not any(part.removesuffix(".rs") == "tests" for part in parts):
        return "src/" if place == 0 else "/".join(parts[:place]) + "/src/"
    return "tests, benches, examples, fuzz"


def table(files, with_code):
    rows = {}
    for path, text in files:
        count = Count.of(path, text, with_code)
        name = row(path)
        names = [name, "total"] + (["sources"] if name.endswith("src/") else [])
        for name in names:
            rows.setdefault(name, Count()).add(count)
    return rows


def order(name):
    last = ["sources", "tests, benches, examples, fuzz", "pages (.md)", "total"]
    return (last.index(name) + 1 if name in last else 0, name)


def show(rows, base, with_code):
    def cell(name, figure, digits):
        def text(count):
            return f"{figure(count):.{digits}f}"

        new = text(rows[name]) if name in rows else "-"
        if base is None:
            return new
        return f"{new} ({text(base[name]) if name in base else '-'})"

    def rate(column):
        return lambda count: 10_000 * count.hits[column] / count.words if count.words else 0.0

    head = ["", "words", "doc code", *COLUMNS]
    names = sorted({*rows, *(base or {})}, key=order)
    lines = [head]
    for name in names:
        counts = [cell(name, lambda c: c.words, 0), cell(name, lambda c: c.code, 0)]
        lines.append([name, *counts, *(cell(name, rate(column), 1) for column in COLUMNS)])
    for name, (words, code, figures) in OTHERS[with_code].items():
        lines.append([name, str(words), str(code), *figures])
    if with_code:
        lines.append(["review, ten other trees", "", "", *(REVIEW.get(column, "") for column in COLUMNS)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print(line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:])), sep="  ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", metavar="REV", help="a revision to show in brackets")
    parser.add_argument("--list", metavar="WORD", help="show where a word or phrase stands on one line")
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    parser.add_argument("--tree", metavar="DIR", default=here, help="another source tree than this repository")
    parser.add_argument("--with-code", action="store_true", help="count code in fences as prose")
    arguments = parser.parse_args()
    with_code = arguments.with_code
    if arguments.list:
        wanted = re.compile(rf"\b(?:{re.escape(arguments.list)})\b", re.IGNORECASE)
        for path, text in now(arguments.tree):
            for number, line in prose(lines_of(path, text))[0]:
                if wanted.search(line):
                    print(f"{path}:{number}: {line.strip()}")
        return
    base = table(before(arguments.tree, arguments.base), with_code) if arguments.base else None
    beside = f", in brackets at {arguments.base}" if arguments.base else ""
    code = "with the code in fences" if with_code else "without the code in fences, which is counted apart"
    print(f"Words in comments (.rs) and pages (.md), {code}, and each word per 10,000 of them{beside}.")
    print("`nobody..` is nobody, somebody and whoever. `sources` is all src/ folders without tests.\n")
    show(table(now(arguments.tree), with_code), base, with_code)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `ci/words.py --list WORD | head` ends quietly
    main()
