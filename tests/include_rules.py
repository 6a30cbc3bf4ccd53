#!/usr/bin/env python3
"""Holds every include under src/kinora to the table of rooms in ARCHITECTURE.md.

Files that lie in src/kinora itself, the public face, are the room `kinora`.
A room may include itself, the rooms its row names and, through them, what those may include. Usage: include_rules.py [ROOT]
"""
import re
import sys
import tempfile
from pathlib import Path


def read_table(text):
    """{room: rooms named in its row}, from the table of ARCHITECTURE.md headed '| room | purpose | may include |'."""
    table = {}
    header = "| room | purpose | may include |"
    for line in text[text.index(header) :].splitlines():
        if not line.startswith("|"):
            break
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if len(cells) == 3 and re.fullmatch(r"`\w+`", cells[0]):
            table[cells[0].strip("`")] = re.findall(r"`(\w+)`", cells[2])
    return table


def closure(table, room):
    seen, todo = set(), [room]
    while todo:
        at = todo.pop()
        if at not in seen:
            seen.add(at)
            todo += table.get(at, [])
    return seen


def check(root):
    table = read_table((root / "ARCHITECTURE.md").read_text())
    problems = [f"ARCHITECTURE.md: {room} names {to}, which has no row" for room, row in table.items() for to in row if to not in table]
    for file in sorted((root / "src/kinora").rglob("*")):
        if file.suffix not in (".h", ".cpp", ".cu"):
            continue
        parts = file.relative_to(root / "src/kinora").parts
        room = parts[0] if len(parts) > 1 else "kinora"
        if room not in table:
            problems.append(f"{file.relative_to(root)}: room {room} has no row in ARCHITECTURE.md")
            continue
        allowed = closure(table, room)
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*["<]kinora/(?:(\w+)/|\w+\.h)', line)
            if match and (match.group(1) or "kinora") not in allowed:
                problems.append(f"{file.relative_to(root)}:{number}: {room} may not include {match.group(1) or 'kinora'}")
    return table, problems


def self_test():
    """The check must be able to fail."""
    page = "| room | purpose | may include |\n| `a` | low | - |\n| `b` | high | `a` |\n| `c` | top | `b` |\n\n| `a` | not a rule | `c` |\n"
    table = read_table(page)
    assert closure(table, "c") == {"a", "b", "c"} and closure(table, "a") == {"a"}, "closure is wrong"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "ARCHITECTURE.md").write_text(page)
        for room, include in (("a", "b"), ("c", "a"), ("d", "a")):
            (root / "src/kinora" / room).mkdir(parents=True)
            (root / "src/kinora" / room / "x.h").write_text(f'#include "kinora/{include}/x.h"\n')
        (root / "src/kinora/b").mkdir()
        (root / "src/kinora/b/y.h").write_text('#include "kinora/kinora.h"\n')
        (root / "src/kinora/kinora.h").write_text('#include "kinora/a/x.h"\n')
        wanted = ["src/kinora/a/x.h:1: a may not include b", "src/kinora/b/y.h:1: b may not include kinora",
                  "src/kinora/d/x.h: room d has no row in ARCHITECTURE.md", "src/kinora/kinora.h: room kinora has no row in ARCHITECTURE.md"]
        assert check(root)[1] == wanted, check(root)[1]


if __name__ == "__main__":
    self_test()
    rooms, found = check(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    print("\n".join(found) if found else f"{len(rooms)} rooms, every include follows the table")
    sys.exit(1 if found or not rooms else 0)
