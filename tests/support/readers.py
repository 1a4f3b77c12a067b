"""Reads CSV or JSON lines with Python's own modules and prints one JSON array a row.

    readers.py csv FILE          every cell as text
    readers.py jsonl FILE        every value; numbers as {"n": "their digits"}
    readers.py names FILE        JSON lines: the keys of the first row

FILE may end in .gz. Anything that the modules refuse ends the program with an error.
"""

import csv
import gzip
import json
import sys

csv.field_size_limit(1 << 30)


def opened(path):
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8", newline="")


def number(text):
    return {"n": text}


def refuse(text):
    raise ValueError(f"{text} is not JSON")


def unique(pairs):
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"a key twice in {keys}")
    return dict(pairs)


def main(kind, path):
    out = sys.stdout
    with opened(path) as file:
        if kind == "csv":
            for row in csv.reader(file, strict=True):
                out.write(json.dumps(row) + "\n")
            return
        for line in file:
            if not line.endswith("\n"):
                raise ValueError("the last line has no end")
            row = json.loads(line, parse_int=number, parse_float=number, parse_constant=refuse, object_pairs_hook=unique)
            if kind == "names":
                out.write(json.dumps(list(row)) + "\n")
                return
            out.write(json.dumps(list(row.values())) + "\n")


main(*sys.argv[1:])
