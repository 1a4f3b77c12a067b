"""Reads CSV, JSON lines and records of fixed width with Python's own modules and prints one JSON array a row.

    readers.py csv FILE          every cell as text
    readers.py jsonl FILE        every value; numbers as {"n": "their digits"}
    readers.py names FILE        JSON lines: the keys of the first row
    readers.py fixed:3,5 FILE    every line cut into slices of these widths
    readers.py nacha FILE        every record of 94 characters cut into its fields, when all
                                 counts, hashes and sums are what they must be

FILE may end in .gz. Anything that the modules refuse ends the program with an error.
"""

import csv
import gzip
import itertools
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


def sliced(line, widths):
    if len(line) != sum(widths):
        raise ValueError(f"{len(line)} characters instead of {sum(widths)}: {line!r}")
    ends = list(itertools.accumulate(widths))
    return [line[end - width : end] for end, width in zip(ends, widths)]


NACHA = {
    "1": [1, 2, 10, 10, 6, 4, 1, 3, 2, 1, 23, 23, 8],
    "5": [1, 3, 16, 20, 10, 3, 10, 6, 6, 3, 1, 8, 7],
    "6": [1, 2, 8, 1, 17, 10, 15, 22, 2, 1, 15],
    "8": [1, 3, 6, 10, 12, 12, 10, 19, 6, 8, 7],
    "9": [1, 6, 6, 8, 10, 12, 12, 39],
}


def nacha(text):
    lines = text.split("\n")
    if lines.pop() or len(lines) % 10:
        raise ValueError(f"{len(lines)} records, the last of them ended: {text[-1:]!r}")
    while lines[-1] == "9" * 94:
        lines.pop()
    records = [sliced(line, NACHA[line[0]]) for line in lines]
    totals = {"batch": [0] * 4, "file": [0] * 4}
    batches = traces = 0

    def must(said, is_so):
        if [int(field) for field in said] != is_so:
            raise ValueError(f"{said} should be {is_so}")

    for record in records:
        if record[0] == "5":
            batches += 1
            totals["batch"] = [0] * 4
            must(record[12:], [batches])
        elif record[0] == "6":
            traces += 1
            must([record[10][8:]], [traces])
            digits = [int(digit) for digit in record[2]]
            check = -sum(digit * weight for digit, weight in zip(digits, [3, 7, 1, 3, 7, 1, 3, 7])) % 10
            must([record[3]], [check])
            debit = record[1] in ("27", "28", "37", "38")
            for total in totals.values():
                total[0] += 1
                total[1] += int(record[2])
                total[2 if debit else 3] += int(record[5])
        elif record[0] == "8":
            count, hashed, debits, credits = totals["batch"]
            must(record[2:6] + record[10:], [count, hashed % 10**10, debits, credits, batches])
        elif record[0] == "9":
            count, hashed, debits, credits = totals["file"]
            blocks = -(-len(records) // 10)
            must(record[1:7], [batches, blocks, count, hashed % 10**10, debits, credits])
    return records


def main(kind, path):
    out = sys.stdout
    kind, _, widths = kind.partition(":")
    with opened(path) as file:
        if kind in ("fixed", "nacha"):
            text = file.read()
            cut = [int(width) for width in widths.split(",")] if widths else []
            lines = nacha(text) if kind == "nacha" else [sliced(line, cut) for line in text.split("\n")[:-1]]
            for line in lines:
                out.write(json.dumps(line) + "\n")
            return
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
