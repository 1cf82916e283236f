"""Checks who imports whom between the files of each crate.

    ci/floors.sh                    all crates of the workspace
    ci/floors.sh --all              also lists every import within a circle
    ci/floors.sh --levels           prints the lowest floor that each file could stand on, to write the list from
    ci/floors.sh --list FILE        reads the floors from FILE in place of ARCHITECTURE.md
    ci/floors.sh --self-test        checks this script on crates with planted faults

The floors stand in ARCHITECTURE.md between `<!-- floors: begin -->` and `<!-- floors: end -->`: for each crate a line with
its source folder in backticks, such as "cumem-driver, `driver/src`", and a table. Each row is a room:

    | floor | room | files | contents |
    |---|---|---|---|
    | 1 | words | `location` `error` | names that every room uses |
    | 2 | interface | `driver.rs` | the trait |
    | 3 | cuda | `cuda` | the implementation |

`error` is error.rs and everything in error/; `driver.rs` is that file; `uvm/*` is the files directly in uvm/. If several
patterns match a file, the longest decides. A file may import files of its own room and of rooms on lower floors: neither a
higher floor, nor another room of its own floor. No files may import each other in a circle, within a room or across.
A crate without a table is checked for circles alone.

An import is a path in `use` or in code (`crate::`, `super::`, `self::`, a child module, or a module that `use` has named).
It leads to the file that defines the name: re-exports are followed. `use super::*` is an import of the parent. A
`pub use` is an import. `mod x;` is none, nor is anything under `#[cfg(test)]`, in comments or in strings.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
from collections import defaultdict, deque

BEGIN, END = "<!-- floors: begin -->", "<!-- floors: end -->"
TOKEN = re.compile(
    r"""(?P<skip>//[^\n]*|\s+|b?r(?P<h>\#+)".*?"(?P=h)|[bc]?r"[^"]*"|[bc]?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^\\'])'|'\w+)
    |(?P<open>/\*)|(?P<word>(?:r\#)?\w+)|(?P<mark>::|.)""",
    re.DOTALL | re.VERBOSE,
)
DEFINES = {"fn", "struct", "enum", "trait", "type", "const", "static", "union"}
ITEMS = DEFINES | {"pub", "mod", "impl", "use", "macro_rules", "unsafe", "extern", "async", "default"}


def tokens_of(text):
    """The tokens of a Rust file with their lines, without comments and literals."""
    found, i, line = [], 0, 1
    while i < len(text):
        match = TOKEN.match(text, i)
        end = match.end()
        if match["open"]:
            depth = 1
            while depth and end < len(text):
                step = {"/*": 1, "*/": -1}.get(text[end : end + 2], 0)
                depth, end = depth + step, end + (2 if step else 1)
        elif not match["skip"]:
            found.append((match.group(), line))
        line += text.count("\n", i, end)
        i = end
    return found


class Module:
    def __init__(self, file, parent):
        self.file, self.parent = file, parent
        self.children, self.defines, self.uses, self.globs = {}, set(), {}, []
        self.deep = set()  # names defined in bodies and macro calls: a name that is found nowhere else may be one
        self.paths = []  # (segments, line), in code
        self.imports = []  # (segments, name or None for a glob, line, whether it is re-exported)

    def root(self):
        return self if self.parent is None else self.parent.root()


class Crate:
    """The modules of a crate, read from its root file."""

    def __init__(self, source, root):
        self.source, self.files, self.macros = source, {}, {}
        self.modules = []
        self.root = self.read(root, None)

    def read(self, file, parent):
        module = Module(file, parent)
        self.modules.append(module)
        self.files[file] = module
        with open(os.path.join(self.source, file), encoding="utf-8") as text:
            Reader(self, file, tokens_of(text.read())).module(module)
        return module

    def child(self, file, name):
        """The file of `mod name;` in `file`."""
        folder, base = os.path.split(file)
        stem = base.removesuffix(".rs")
        folder = folder if stem in ("lib", "main", "mod") else os.path.join(folder, stem)
        for candidate in (f"{name}.rs", os.path.join(name, "mod.rs")):
            candidate = os.path.normpath(os.path.join(folder, candidate))
            if os.path.isfile(os.path.join(self.source, candidate)):
                return candidate
        return None


class Reader:
    """Reads the tokens of one file into modules."""

    def __init__(self, crate, file, tokens):
        self.crate, self.file, self.tokens, self.i = crate, file, tokens, 0

    def peek(self, ahead=0):
        return self.tokens[self.i + ahead][0] if self.i + ahead < len(self.tokens) else ""

    def module(self, module):
        """Up to the brace that closes the module, or the end of the file."""
        depth, attributes = 0, []
        while self.i < len(self.tokens):
            token, line = self.tokens[self.i]
            before = self.tokens[self.i - 1][0] if self.i else ""
            if token == "#" and self.peek(1) in ("[", "!") and (self.peek(1) == "[" or self.peek(2) == "["):
                attributes.append(self.attribute())
                continue
            if attributes and any(is_test(attribute) for attribute in attributes):
                self.skip_item()
                attributes = []
                continue
            if token == "{":
                depth += 1
            elif token == "}":
                depth -= 1
                if depth < 0:
                    self.i += 1
                    return
            elif token == "pub" and self.peek(1) == "(":
                self.i += 1
                self.skip_group()
                continue
            elif token == "mod" and self.peek(2) in (";", "{"):
                name = self.peek(1)
                self.i += 3
                if self.peek(-1) == "{":
                    inline = Module(module.file, module)
                    self.crate.modules.append(inline)
                    module.children[name] = inline
                    self.module(inline)
                elif (file := self.crate.child(self.file, name)) is not None:
                    module.children[name] = self.crate.read(file, module)
                attributes = []
                continue
            elif token == "use" and before != "::":
                self.i += 1
                public = before in ("pub", ")")
                self.use_tree(module, [], public)
                attributes = []
                continue
            elif token == "macro_rules" and self.peek(1) == "!":
                module.defines.add(self.peek(2))
                if any(attribute[:1] == ["macro_export"] for attribute in attributes):
                    self.crate.macros[self.peek(2)] = module.file
            elif token in DEFINES and re.match(r"[A-Za-z_]", self.peek(1)):
                (module.defines if depth == 0 else module.deep).add(self.peek(1))
            elif self.peek(1) == "::" and re.match(r"\w", token) and before not in ("::", "."):
                self.path(module, line)
                continue
            attributes = []
            self.i += 1

    def attribute(self):
        self.i += 1 if self.peek(1) == "[" else 2
        start = self.i + 1
        self.skip_group()
        return [token for token, _ in self.tokens[start : self.i - 1]]

    def skip_group(self):
        """Over a group in brackets that opens here."""
        depth = 0
        while self.i < len(self.tokens):
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(self.peek(), 0)
            self.i += 1
            if depth == 0:
                return

    def skip_item(self):
        """Over an item, a statement, a field or an arm that is for tests."""
        is_item = self.peek() in ITEMS
        while self.i < len(self.tokens):
            token = self.peek()
            if token in ("}", ")", "]"):
                return
            if token in ("(", "[", "{"):
                self.skip_group()
                if token == "{":
                    return
                continue
            self.i += 1
            if token == ";" or (token == "," and not is_item):
                return

    def path(self, module, line):
        segments = [self.peek()]
        self.i += 1
        while self.peek() == "::" and re.match(r"[A-Za-z_]", self.peek(1)):
            segments.append(self.peek(1))
            self.i += 2
        if len(segments) > 1:
            module.paths.append((segments, line))

    def use_tree(self, module, prefix, public):
        """One tree of `use`, up to and over what ends it."""
        segments, line = list(prefix), self.tokens[self.i][1]
        while True:
            token, at = self.tokens[self.i]
            self.i += 1
            if token == "{":
                while self.peek() != "}":
                    self.use_tree(module, segments, public)
                    if self.peek() == ",":
                        self.i += 1
                self.i += 1
                break
            if token == "*":
                module.imports.append((segments, None, at, public))
                break
            if token != "::":
                line = at
                if not (token == "self" and segments):
                    segments.append(token)
                if self.peek() != "::":
                    name = segments[-1]
                    if self.peek() == "as":
                        name = self.peek(1)
                        self.i += 2
                    module.imports.append((segments, name, line, public))
                    break
        if self.peek() == ";":
            self.i += 1


def is_test(attribute):
    if attribute[:1] == ["cfg"]:
        return not {"test", "doctest"}.isdisjoint(attribute) and "not" not in attribute
    return attribute == ["test"]


def start(module, segments):
    """Where a path begins, and what is left of it; (None, ..) for another crate's."""
    first, rest = segments[0], segments[1:]
    if first == "crate":
        return module.root(), rest
    if first == "self":
        return module, rest
    if first == "super":
        return module.parent, rest
    if first in module.children or first in module.uses:
        return module, segments
    return None, rest


def follow(crate, module, segments, seen=frozenset()):
    """The module or the file that a path leads to; None for another crate's."""
    at, rest = start(module, segments)
    return None if at is None else walk(crate, at, rest, seen)


def walk(crate, module, segments, seen):
    if not segments:
        return module
    name, rest = segments[0], segments[1:]
    if name == "super":
        return walk(crate, module.parent, rest, seen)
    if name in module.children and (rest or name not in module.defines):
        return walk(crate, module.children[name], rest, seen)
    if name in module.defines:
        return module.file
    if (module, name) in seen:
        return module.file
    seen = seen | {(module, name)}
    for path in module.uses.get(name, []):
        # A name may be imported from the module that it names, such as a macro: `pub(crate) use leaf_layer;`.
        if path != [name]:
            return follow(crate, module, path + rest, seen)
    for path in module.globs:
        target = follow(crate, module, path, seen)
        if isinstance(target, Module) and has(crate, target, name, seen):
            return walk(crate, target, segments, seen)
    if module.parent is None and name in crate.macros:
        return crate.macros[name]
    return module.file


def has(crate, module, name, seen):
    if name in module.children or name in module.defines or name in module.uses or name in module.deep:
        return True
    if (module, name) in seen:
        return False
    seen = seen | {(module, name)}
    targets = (follow(crate, module, path, seen) for path in module.globs)
    return any(isinstance(target, Module) and has(crate, target, name, seen) for target in targets)


def imports_of(crate):
    """{(from, to): [(line, path)]} between the files of a crate."""
    for module in crate.modules:
        for segments, name, _, _ in module.imports:
            if name is None:
                module.globs.append(segments)
            else:
                module.uses.setdefault(name, []).append(segments)
    found = defaultdict(list)

    def add(module, target, line, segments):
        file = target.file if isinstance(target, Module) else target
        if file is not None and file != module.file:
            found[module.file, file].append((line, "::".join(segments)))

    for module in crate.modules:
        qualified = {segments[0] for segments, _ in module.paths}
        for segments, name, line, public in module.imports:
            target = follow(crate, module, segments)
            # A module that is named to reach into it: each reach counts, and leads to where the name is defined.
            if isinstance(target, Module) and name in qualified and not public:
                continue
            add(module, target, line, segments)
        for segments, line in module.paths:
            add(module, follow(crate, module, segments), line, segments)
    return found


def circles_of(files, imports):
    """Groups of files that reach each other: Tarjan's strongly connected components of more than one file."""
    after = defaultdict(list)
    for origin, target in sorted(imports):
        after[origin].append(target)
    index, low, stack, on, circles = {}, {}, [], set(), []
    for first in files:
        if first in index:
            continue
        work = [(first, iter(after[first]))]
        index[first] = low[first] = len(index)
        stack.append(first)
        on.add(first)
        while work:
            file, rest = work[-1]
            for target in rest:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on.add(target)
                    work.append((target, iter(after[target])))
                    break
                if target in on:
                    low[file] = min(low[file], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[file])
                if low[file] == index[file]:
                    group = []
                    while not group or group[-1] != file:
                        group.append(stack.pop())
                        on.discard(group[-1])
                    if len(group) > 1:
                        circles.append(sorted(group))
    return sorted(circles, key=len, reverse=True)


def shortest(circle, imports):
    """One shortest way around within a circle, as a list of files."""
    best = None
    for first in circle:
        origin, queue = {first: None}, deque([first])
        while queue:
            file = queue.popleft()
            targets = [target for target in circle if (file, target) in imports]
            if first in targets:
                way = [file]
                while origin[way[-1]] is not None:
                    way.append(origin[way[-1]])
                if best is None or len(way) < len(best):
                    best = way[::-1]
                break
            for target in targets:
                if target not in origin:
                    origin[target] = file
                    queue.append(target)
    return best


def levels_of(files, imports, circles):
    """The lowest floor for each file: one above the highest of what it imports; a circle is one."""
    group = {file: tuple(circle) for circle in circles for file in circle}
    after = defaultdict(set)
    for origin, target in imports:
        origin, target = group.get(origin, (origin,)), group.get(target, (target,))
        if origin != target:
            after[origin].add(target)
    level = {}

    def of(node):
        if node not in level:
            level[node] = 1 + max((of(target) for target in after[node]), default=0)
        return level[node]

    sys.setrecursionlimit(10_000)
    return {file: of(group.get(file, (file,))) for file in files}


class Floors:
    """The rooms of one crate."""

    def __init__(self):
        self.patterns = []  # (pattern, regular expression, floor, room)

    def add(self, pattern, floor, room):
        if pattern.endswith(".rs") or "*" in pattern:
            expression = re.escape(pattern).replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
        else:
            expression = re.escape(pattern) + r"(\.rs|/.*)"
        self.patterns.append((pattern, re.compile(expression), floor, room))

    def of(self, file):
        """Floor and room of a file, or None."""
        matching = [entry for entry in self.patterns if entry[1].fullmatch(file)]
        best = max(matching, key=lambda entry: len(entry[0]), default=None)
        return best and (best[2], best[3])


def floors_from(path):
    """{source folder: Floors} of a page, or None if it has no list."""
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if BEGIN not in text or END not in text:
        return None
    crates, current = {}, None
    for line in text.split(BEGIN, 1)[1].split(END, 1)[0].split("\n"):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.lstrip().startswith("|"):
            if current is not None and len(cells) >= 3 and cells[0].isdigit():
                for pattern in re.findall(r"`([^`]+)`", cells[2]):
                    current.add(pattern, int(cells[0]), cells[1])
        elif folder := re.search(r"`((?:[\w./-]+/)?src)/?`", line):
            current = crates.setdefault(folder[1], Floors())
    return crates


def crates_under(top):
    """(source folder, root file) of each crate of the workspace, the root's own first."""
    for folder in ["", *sorted(entry.name for entry in os.scandir(top) if entry.is_dir())]:
        source = os.path.join(folder, "src")
        if folder == "fuzz" or not os.path.isfile(os.path.join(top, folder, "Cargo.toml")):
            continue
        for root in ("lib.rs", "main.rs"):
            if os.path.isfile(os.path.join(top, source, root)):
                yield source, root
                break


def check(top, page, everything=False, levels=False):
    """Checks all crates, and returns the lines to print and whether all is in order."""
    lists, out = floors_from(page), []
    total = {"circles": 0, "upward": 0, "unlisted": 0, "files": 0, "imports": 0}
    if lists is None and not levels:
        total["unlisted"] += 1
        out.append(f"{os.path.relpath(page, top)}: no list of floors between `{BEGIN}` and `{END}`")
    sources = []
    for source, root in crates_under(top):
        sources.append(source)
        crate = Crate(os.path.join(top, source), root)
        imports, files = imports_of(crate), sorted(crate.files)
        circles = circles_of(files, imports)
        total["files"] += len(files)
        total["imports"] += len(imports)
        if levels:
            out.append(f"{source}:")
            level = levels_of(files, imports, circles)
            within = {file: f" (circle of {len(circle)})" for circle in circles for file in circle}
            out += [f"{level[file]:4} {file}{within.get(file, '')}" for file in sorted(files, key=lambda f: (level[f], f))]
            continue

        def told(origin, target, at=source):
            line, path = imports[origin, target][0]
            return f"{at}/{origin}:{line}: imports {at}/{target} ({path})"

        for circle in circles:
            total["circles"] += 1
            way = shortest(circle, imports)
            inside = sorted(pair for pair in imports if pair[0] in circle and pair[1] in circle)
            out.append(f"circle of {len(circle)} files, {len(inside)} imports: {' '.join(f'{source}/{f}' for f in circle)}")
            out.append("  the shortest way around:")
            out += [f"  {told(file, way[(n + 1) % len(way)])}" for n, file in enumerate(way)]
            if everything:
                out.append("  all imports within:")
                out += [f"  {told(*pair)}" for pair in inside]
        floors = (lists or {}).get(source)
        if floors is None:
            continue
        place = {file: floors.of(file) for file in files}
        for file in files:
            if place[file] is None:
                total["unlisted"] += 1
                out.append(f"{source}/{file}:1: in no room of the list")
        matched = [entry[0] for entry in floors.patterns if any(entry[1].fullmatch(file) for file in files)]
        for pattern, *_ in floors.patterns:
            if pattern not in matched:
                total["unlisted"] += 1
                out.append(f"{source}: no file matches `{pattern}` of the list")
        for origin, target in sorted(imports):
            from_, to = place[origin], place[target]
            if from_ is None or to is None or from_ == to or to[0] < from_[0]:
                continue
            total["upward"] += 1
            how = f"upward, from floor {from_[0]} ({from_[1]}) to {to[0]} ({to[1]})"
            if to[0] == from_[0]:
                how = f"sideways on floor {to[0]}, from {from_[1]} to {to[1]}"
            out.append(f"{told(origin, target)}: {how}")
    for folder in sorted(set(lists or {}) - set(sources)):
        total["unlisted"] += 1
        out.append(f"{folder}: in the list, and no crate has this folder")
    if not levels:
        if total["unlisted"]:
            out.append(f"{total['unlisted']} faults of the list")
        summary = "{circles} circles, {upward} upward imports in {files} files, {imports} imports"
        out.append(summary.format(**total))
    return out, not (total["circles"] or total["upward"] or total["unlisted"])


# What the self-test plants: a clean crate, and for each fault the files that differ and a line that must be printed.
CLEAN = {
    "Cargo.toml": "",
    "ARCHITECTURE.md": f"""{BEGIN}
planted, `src`

| floor | room | files | |
|---|---|---|---|
| 1 | words | `words` | |
| 2 | left | `left` | |
| 2 | right | `right.rs` | |
| 3 | top | `lib.rs` | |
{END}
""",
    "src/lib.rs": "mod left; mod right; pub mod words;\npub use left::{Left, deep::Deep as Deeper};\npub use words::*;\n",
    "src/words.rs": "mod small;\npub use small::{Small, Tiny};\npub fn words() -> Tiny { Tiny }\n",
    "src/words/small.rs": "pub struct Small; pub struct Tiny;\n",
    "src/left.rs": 'mod deep;\nuse crate::{words::{self, Small}};\npub struct Left(Small);\n// use crate::right::Right;\n'
    'const TEXT: &str = "crate::right::Right";\nfn f() -> words::Tiny { words::words() }\n'
    "#[cfg(test)]\nmod tests { use crate::right::Right; }\n",
    "src/left/deep.rs": "use crate::Small;\npub(in crate::left) struct Deep(Small, Tiny);\nuse crate::words::Tiny;\n",
    "src/right.rs": "use crate::Small;\npub struct Right(Small);\n#[cfg(test)]\nmod tests;\n",
    "src/right/tests.rs": "use crate::left::Left;\n",
}
PLANTED = [
    ("nothing", {}, "0 circles, 0 upward imports in 6 files, 8 imports"),
    (
        "a circle through a nested group and a re-export",
        {"src/words/small.rs": "use crate::{words::{words, Tiny as T}};\npub struct Small; pub struct Tiny;\n"},
        "circle of 2 files, 2 imports: src/words.rs src/words/small.rs",
    ),
    (
        "a circle through super::*",
        {"src/left/deep.rs": "use super::*;\npub struct Deep;\n", "src/left.rs": "mod deep;\nuse deep::Deep;\npub struct Left;\n"},
        "  src/left/deep.rs:1: imports src/left.rs (super)",
    ),
    (
        "an upward path in code",
        {"src/words.rs": "mod small;\npub use small::{Small, Tiny};\npub fn words() -> Tiny {\n    crate::left::f();\n    Tiny\n}\n"},
        "src/words.rs:4: imports src/left.rs (crate::left::f): upward, from floor 1 (words) to 2 (left)",
    ),
    (
        "an upward import through the root's re-export",
        {"src/words/small.rs": "use crate::Left;\npub struct Small; pub struct Tiny;\n"},
        "src/words/small.rs:1: imports src/left.rs (crate::Left): upward, from floor 1 (words) to 2 (left)",
    ),
    (
        "an import of another room of the same floor",
        {"src/right.rs": "use crate::{Small, left};\npub struct Right(Small, left::Left);\n"},
        "src/right.rs:2: imports src/left.rs (left::Left): sideways on floor 2, from right to left",
    ),
    (
        "a file in no room",
        {"src/other.rs": "", "src/lib.rs": "mod left; mod right; mod other; pub mod words;\npub use words::*;\n"},
        "src/other.rs:1: in no room of the list",
    ),
]


def self_test():
    for what, changed, expected in PLANTED:
        with tempfile.TemporaryDirectory() as top:
            for path, text in {**CLEAN, **changed}.items():
                os.makedirs(os.path.dirname(os.path.join(top, path)), exist_ok=True)
                with open(os.path.join(top, path), "w", encoding="utf-8") as file:
                    file.write(text)
            out, fine = check(top, os.path.join(top, "ARCHITECTURE.md"))
        if expected not in out or fine != (not changed):
            print(f"planted {what}: expected\n  {expected}\nfound", *out, sep="\n  ")
            return False
        print(f"planted {what}: found")
    return True


def main():
    top = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    parser = argparse.ArgumentParser(
        prog="ci/floors.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--all", action="store_true", help="list every import within a circle")
    parser.add_argument("--levels", action="store_true", help="print the lowest floor of each file")
    parser.add_argument("--list", metavar="FILE", default=os.path.join(top, "ARCHITECTURE.md"), help="page with the list")
    parser.add_argument("--self-test", action="store_true", help="check this script")
    arguments = parser.parse_args()
    if arguments.self_test:
        sys.exit(not self_test())
    out, fine = check(os.path.normpath(top), arguments.list, arguments.all, arguments.levels)
    print(*out, sep="\n")
    sys.exit(0 if fine or arguments.levels else 1)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `ci/floors.sh | head` ends quietly
    main()
