#!/usr/bin/env python3
"""Runs the tests that reach a mutant, for every mutant; see README.md.

    run.py config  WORK COPY         writes config.json of what cargo said in WORK/messages
    run.py trace   WORK [UNTIL]      each test alone: how long it takes, which mutants it reaches
    run.py steady  WORK              all of them again, with no mutant: which are flaky
    run.py mutants WORK [UNTIL]      every mutant, until UNTIL, in seconds since 1970
    run.py more    WORK [UNTIL]      those that survived, by slower tests too
    run.py prove   WORK TEST N...    which of these mutants the test catches
    run.py report  WORK              figures, and what survived

What is found is in trace.jsonl, flaky.json, results.jsonl and more.jsonl, and is not done again.
"""

import collections
import ctypes
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

LANES = int(os.environ.get("LANES", "2"))
SEED = 2026
PR_SET_CHILD_SUBREAPER = 36
# Seconds of tests by which a mutant is tried that the quickest have let live: at first, and then with "more".
SECOND, BUDGET = 6.0, 90.0
# What the tests that are run begin with, of the library and of the integration tests.
FILTERS = {
    "lib": [""],
    "main": ["delivery::", "ledger::", "faults::", "sandbox::", "dataset::tenants"]
    + [f"cli::{group}::" for group in (
        "admin", "audit", "buckets", "check", "clocks", "customers", "daemon", "demo", "doubts", "fairness", "flights",
        "inputs", "ledger", "limits", "modes", "pieces", "postgres", "preflight", "quarantine", "recovery", "reload",
        "service", "timing", "unready")],
}
# Parts of the names of tests that share a server which is long in starting.
TOGETHER = ["on_postgres", "ledger::nodes", "ledger::server"]
# Source files whose tests have another name.
NAMES = {"claim": "admission", "failure": "layers", "denied": "layers", "manifest": "answers", "completing": "answers",
         "probe": "preflight", "role": "preflight", "uploads": "preflight", "caller": "preflight", "slots": "left_out",
         "bucket": "protocol", "object": "protocol", "contents": "spilled", "buffer": "spilled", "compress": "compression",
         "admin": "admin", "open": "files", "row": "admission", "error": "files"}


class State:
    def __init__(self, folder):
        self.folder = folder
        self.config = self.read("config.json")
        with open(self.path("list")) as lines:
            self.mutants = {m["number"]: m for m in map(json.loads, lines)}

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name, default=None):
        if not os.path.exists(self.path(name)):
            return default
        with open(self.path(name)) as file:
            return json.load(file)

    def lines(self, name):
        if not os.path.exists(self.path(name)):
            return []
        with open(self.path(name)) as file:
            return [json.loads(line) for line in file if line.strip()]

    def add(self, name, entry):
        with open(self.path(name), "a") as file:
            file.write(json.dumps(entry) + "\n")


def children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
        except OSError:
            pass
    return found


def end_orphans():
    """Whoever the test left behind is this process's child by now. Servers end by themselves."""
    patience = time.monotonic() + 3
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if time.monotonic() > patience:
            for pid in children(os.getpid()):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        time.sleep(0.02)


def become_lane(folder):
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    global TMP
    TMP = folder


def run(state, tests, limit, mutant=None, trace=None, threads=2):
    """Of one binary. Returns (how it ended, failed tests, seconds)."""
    binary = tests[0][0]
    env = dict(os.environ) | {"RUST_BACKTRACE": "0", "TMPDIR": TMP}
    if mutant:
        env["CONSIGN_MUTANT"] = str(mutant)
    if trace:
        env["CONSIGN_MUTANT_TRACE"] = trace
    shutil.rmtree(TMP, ignore_errors=True)
    os.makedirs(TMP)
    names = [name for _, group in tests for name in group.split()]
    args = [state.config["binaries"][binary], "--exact", f"--test-threads={threads}", *names]
    started = time.monotonic()
    out_path = f"{TMP}.out"
    with open(out_path, "w+") as out:
        child = subprocess.Popen(args, cwd=state.config["cwd"], env=env, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = child.wait(limit)
            ended = "passed" if code == 0 else "failed"
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            ended = "timeout"
        seconds = time.monotonic() - started
        end_orphans()
        out.seek(0)
        text = out.read()
    failed = [line[5:].split(" ... ")[0].split(" - ")[0] for line in text.splitlines()
              if line.startswith("test ") and line.rstrip().endswith("FAILED")]
    if ended == "passed" and f"{len(names)} passed" not in text:
        ended = "odd"
    return ended, failed, seconds, text[-2000:] if ended != "passed" else ""


def place_of_a_lane():
    """PostgreSQL, which will not run as root, comes through it as another user."""
    made = tempfile.mkdtemp(prefix="m", dir="/tmp")
    os.chmod(made, 0o711)
    return made


def parallel(state, jobs, work, until=None):
    jobs_queue, done = multiprocessing.Queue(), multiprocessing.Queue()
    # What nobody takes any more is nothing to wait for.
    jobs_queue.cancel_join_thread()
    jobs = list(jobs)
    for job in jobs:
        jobs_queue.put(job)
    for _ in range(LANES):
        jobs_queue.put(None)

    # Short, as there are sockets in it.
    folders = [place_of_a_lane() for _ in range(LANES)]

    def lane(folder):
        become_lane(f"{folder}/t")
        while (job := jobs_queue.get()) is not None and not (until and time.time() > until):
            done.put(work(state, job))
        done.put(None)

    lanes = [multiprocessing.Process(target=lane, args=(folder,)) for folder in folders]
    for process in lanes:
        process.start()
    left = LANES
    while left:
        result = done.get()
        if result is None:
            left -= 1
        else:
            yield result
    for process in lanes:
        process.join()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def trace_one(state, test):
    trace = f"{TMP}.trace"
    if os.path.exists(trace):
        os.remove(trace)
    ended, failed, seconds, text = run(state, [test], 120 if ' ' not in test[1] else 240, trace=trace)
    reached = []
    if os.path.exists(trace):
        with open(trace) as file:
            reached = sorted({int(line) for line in file})
    return {"test": test, "ended": ended, "seconds": round(seconds, 2), "reached": reached, "text": text}


def grouped(names):
    """Those that share a server which is long in starting are one test: ten of them, separated by spaces."""
    slow = [name for name in names if any(part in name for part in TOGETHER)]
    groups = [" ".join(slow[i : i + 10]) for i in range(0, len(slow), 10)]
    return [name for name in names if name not in set(slow)] + groups


def trace(state, until):
    known = {tuple(entry["test"]) for entry in state.lines("trace.jsonl")}
    wanted = []
    for binary in state.config["binaries"]:
        names = [name for name in listed(state, binary) if name.startswith(tuple(FILTERS[binary]))]
        wanted += [(binary, group) for group in grouped(names)]
    jobs = [test for test in wanted if test not in known]
    print(len(wanted), "tests,", len(jobs), "to trace")
    for entry in parallel(state, jobs, trace_one, until):
        state.add("trace.jsonl", entry)
        if entry["ended"] != "passed":
            print(entry["ended"], entry["test"], entry["seconds"], flush=True)


def steady_one(state, tests):
    limit = 60 + 3 * sum(test["seconds"] for test in tests)
    ended, failed, seconds, text = run(state, [tuple(test["test"]) for test in tests], limit)
    return ended, failed, tests, text


def usable(state):
    flaky = set(state.read("flaky.json", []))
    traced = [t for t in state.lines("trace.jsonl") if t["ended"] == "passed" and t["reached"]]
    return sorted((t for t in traced if t["test"][1] not in flaky), key=lambda t: t["seconds"])


def steady(state):
    tests = [t for t in usable(state) if t["seconds"] < 3]
    random.Random(SEED).shuffle(tests)
    groups = []
    for binary in state.config["binaries"]:
        of = [t for t in tests if t["test"][0] == binary]
        groups += [of[i : i + 10] for i in range(0, len(of), 10)]
    flaky = state.read("flaky.json", [])
    for ended, failed, group, text in parallel(state, groups, steady_one):
        if ended != "passed":
            flaky += failed or [f"? {ended} {[t['test'][1] for t in group]}"]
            print(ended, failed, text[-600:], flush=True)
    with open(state.path("flaky.json"), "w") as file:
        json.dump(sorted(set(flaky)), file)


def within(tests, seconds):
    chosen = []
    for test in tests:
        seconds -= test["seconds"]
        if seconds < 0:
            break
        chosen.append(test)
    return chosen


def rounds(tests, is_more, file):
    """Of those that reach a mutant, first those of its module, then the fastest: up to 8, some more, and
    with `is_more` the rest, as far as time allows."""
    stem = os.path.basename(file).removesuffix(".rs")
    is_own = lambda t: any(f"::{name}::" in t["test"][1] for name in (stem, NAMES.get(stem, stem)))
    quick = [t for t in tests if is_own(t) and t["seconds"] < 2.0][:5]
    quick = (quick + [t for t in tests if t["seconds"] < 1.0 and t not in quick])[:8] or tests[:1]
    rest = [t for t in tests if t not in quick]
    second = within(rest[:10], SECOND)
    if not is_more:
        yield quick
        yield second
        return
    rest = [t for t in rest if t not in second]
    chosen = within(rest, BUDGET) or rest[:1]
    for i in range(0, len(chosen), 30):
        yield chosen[i : i + 30]


def mutant_one(state, job):
    number, tests, is_more = job
    started, ran = time.monotonic(), []
    result = {"number": number, "outcome": "survived"}
    for group in rounds(tests, is_more, state.mutants[number]["file"]):
        for binary in state.config["binaries"]:
            of = [t for t in group if t["test"][0] == binary]
            if not of:
                continue
            limit = 8 + 4 * sum(t["seconds"] for t in of)
            threads = 6 if is_more else 2
            ended, failed, _, text = run(state, [tuple(t["test"]) for t in of], limit, mutant=number, threads=threads)
            ran += [t["test"][1] for t in of]
            if ended != "passed":
                result |= {"outcome": "caught" if ended == "failed" else ended, "by": failed, "text": text[-400:]}
                break
        if result["outcome"] != "survived":
            break
    names = {t["test"][1] for t in tests}
    result |= {"seconds": round(time.monotonic() - started, 1), "ran": ran, "not_run": len(names - set(ran))}
    return result


def reach(state):
    reach = collections.defaultdict(list)
    for test in usable(state):
        for number in test["reached"]:
            reach[number].append(test)
    return reach


def mutants(state, until):
    done = {entry["number"] for entry in state.lines("results.jsonl")}
    by_mutant = reach(state)
    todo = [n for n, m in state.mutants.items() if not m["left_out"] and n in by_mutant]
    random.Random(SEED).shuffle(todo)
    # Those last that only slow tests reach.
    todo.sort(key=lambda n: by_mutant[n][0]["seconds"] > 3)
    jobs = [(n, by_mutant[n], False) for n in todo if n not in done]
    print(len(todo), "reached,", len(jobs), "to run", flush=True)
    for count, result in enumerate(parallel(state, jobs, mutant_one, until)):
        state.add("results.jsonl", result)
        if count % 20 == 0:
            print(time.strftime("%H:%M:%S"), count, "of", len(jobs), flush=True)


def more(state, until):
    """Those that have survived, by the tests that were too slow at first."""
    done = {entry["number"] for entry in state.lines("more.jsonl")}
    by_mutant = reach(state)
    survived = [e["number"] for e in state.lines("results.jsonl") if e["outcome"] == "survived" and e["number"] not in done]
    random.Random(SEED).shuffle(survived)
    jobs = [(n, by_mutant[n], True) for n in survived]
    print(len(jobs), "to run", flush=True)
    for result in parallel(state, jobs, mutant_one, until):
        state.add("more.jsonl", result)
        print(result["number"], result["outcome"], result.get("by"), result["seconds"], flush=True)


def prove(state, test, numbers):
    made = place_of_a_lane()
    try:
        become_lane(f"{made}/t")
        for number in [None, *numbers]:
            ended, _, seconds, text = run(state, [(binary_of(state, test), test)], 70, mutant=number)
            print(f"mutant {number}:" if number else "without a mutant:", ended, f"{seconds:.1f} s", flush=True)
            if not number and ended != "passed":
                sys.exit(text)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def binary_of(state, test):
    return next(binary for binary in state.config["binaries"] if test in listed(state, binary))


def listed(state, binary):
    """All but those that are ignored."""
    def of(*which):
        args = [state.config["binaries"][binary], "--list", *which]
        out = subprocess.run(args, cwd=state.config["cwd"], capture_output=True, text=True, check=True).stdout
        return [line.removesuffix(": test") for line in out.splitlines() if line.endswith(": test")]

    ignored = set(of("--ignored"))
    return [name for name in of() if name not in ignored]


def config(folder, copy):
    binaries = {}
    with open(os.path.join(folder, "messages")) as messages:
        for message in map(json.loads, filter(lambda line: line.startswith("{"), messages)):
            target = message.get("target", {})
            if message.get("executable") and message["profile"]["test"] and message["manifest_path"] == f"{copy}/Cargo.toml":
                binaries["main" if target["name"] == "main" and "test" in target["kind"] else "lib"] = message["executable"]
    if binaries.keys() != FILTERS.keys():
        sys.exit(f"cargo has built {binaries}")
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump({"cwd": copy, "binaries": binaries}, file)


def report(state):
    results = {entry["number"]: entry for entry in state.lines("results.jsonl")}
    more = {entry["number"]: entry for entry in state.lines("more.jsonl")}
    by_mutant = reach(state)
    table = collections.defaultdict(collections.Counter)
    for number, mutant in state.mutants.items():
        for kind in (mutant["kind"], "all"):
            count = table[kind]
            count["generated"] += 1
            if mutant["left_out"]:
                count["does not compile"] += 1
            elif number not in by_mutant:
                count["not reached"] += 1
            elif number not in results:
                count["not run"] += 1
            else:
                outcome = results[number]["outcome"]
                if outcome == "survived" and more.get(number, {}).get("outcome", "survived") != "survived":
                    outcome = "caught by a long test"
                count[outcome] += 1
    for kind, count in table.items():
        print(kind, dict(count))
    for number, entry in sorted(results.items()):
        if entry["outcome"] == "survived" and more.get(number, {}).get("outcome", "survived") == "survived":
            m = state.mutants[number]
            print(f'{number} {m["file"]}:{m["line"]} {m["function"]} {m["kind"]} {m["original"]} -> {m["replacement"]}'
                  f' ({len(entry["ran"])} ran, {entry["not_run"]} not)')


if __name__ == "__main__":
    command, folder, *rest = sys.argv[1:]
    if command == "config":
        config(folder, *rest)
        sys.exit()
    state = State(folder)
    {"trace": lambda: trace(state, *map(float, rest or [0])), "steady": lambda: steady(state),
     "mutants": lambda: mutants(state, *map(float, rest or [0])), "more": lambda: more(state, *map(float, rest or [0])),
     "prove": lambda: prove(state, rest[0], map(int, rest[1:])), "report": lambda: report(state)}[command]()
