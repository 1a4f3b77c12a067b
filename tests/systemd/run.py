#!/usr/bin/env python3
"""The Debian package and its service under a real systemd, from installation to
purge: `make test-systemd`. Says what it checks; ends with 1 at the first breach,
with the service's journal.
"""

import argparse
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

from box import SUITE, Box, Impossible, Missing, until

CHECKOUT = Path(__file__).resolve().parents[2]
UNIT = "consign.service"
DROP_IN = "/etc/systemd/system/consign.service.d/test.conf"
STATE = "/var/lib/private/consign"
CREDENTIALS = "/etc/consign/credentials"
STOP_S = 3  # TimeoutStopSec= here, to be exceeded
WATCHDOG_S = 5
SOON = 60
# What could be installed is no reason to skip.
MUST_TEST = os.environ.get("CONSIGN_MUST_TEST") == "1"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("deb", type=Path)
    arguments.add_argument("--cache", type=Path, default=Path.home() / ".cache/consign", help="keeps the root file system")
    arguments.add_argument("--or-skip", action="store_true", help="no failure where systemd-nspawn cannot work")
    arguments = arguments.parse_args()
    began = time.monotonic()
    try:
        with Box(arguments.cache) as box:
            print(f"a Debian has booted after {time.monotonic() - began:.1f} s", flush=True)
            service = Service(box)
            try:
                everything(service, arguments.deb)
            except BaseException:
                print(box.run("journalctl --no-pager -n 60", check=False), file=sys.stderr)
                print(box.run("systemctl --no-pager --full status consign endpoint", check=False), file=sys.stderr)
                raise
    except Impossible as why:
        skip = arguments.or_skip and not (MUST_TEST and isinstance(why, Missing))
        print(f"{'skipped' if skip else 'error'}: {why}", file=sys.stderr)
        return 0 if skip else 1
    except AssertionError as breach:
        print(f"FAILED: {breach}", file=sys.stderr)
        return 1
    print(f"all is well, after {time.monotonic() - began:.0f} s")
    return 0


def everything(service, deb):
    it_can_run_here(service.box, deb)
    newer, newest = (next_version(deb, service.box.dir, number) for number in [1, 2])
    for check, arguments in [
        (it_installs_and_starts_nothing, [deb]),
        (it_starts_with_the_shipped_configuration, []),
        (it_starts_without_a_directory_of_secrets, []),
        (it_delivers_as_a_user_without_rights, []),
        (its_plugins_have_processes_of_their_own, []),
        (its_log_has_priorities_and_no_colours, []),
        (it_resumes_after_kill_9, []),
        (it_is_killed_and_restarted_when_it_hangs, []),
        (a_bad_configuration_is_refused_at_the_start, []),
        (missing_files_keep_no_other_share_from_running, []),
        (a_reload_takes_a_good_configuration, []),
        (a_reload_refuses_a_bad_configuration, []),
        (a_missing_secret_is_not_tried_again, []),
        (a_stop_waits_for_deliveries, []),
        (a_stop_waits_no_longer_than_drain_timeout, []),
        (a_second_signal_ends_it_at_once, []),
        (a_full_disk_is_said_and_passes, []),
        (a_send_by_hand_has_the_units_rights, []),
        (an_upgrade_keeps_state_and_configuration, [newer]),
        (an_upgrade_migrates_an_old_ledger, [newest]),
        (a_removal_keeps_state_and_configuration, []),
        (it_comes_back_as_it_was, [newest]),
        (a_purge_leaves_nothing, [newest]),
    ]:
        began = time.monotonic()
        check(service, *arguments)
        print(f"{time.monotonic() - began:6.1f} s  {check.__name__.replace('_', ' ')}", flush=True)


def it_can_run_here(box, deb):
    """A binary that was built on a newer machine than the box's Debian cannot start there."""
    with tempfile.TemporaryDirectory() as unpacked:
        subprocess.run(["dpkg-deb", "--extract", deb, unpacked], check=True)
        shutil.copy(Path(unpacked) / "usr/bin/consign", box.path("/root/probe"))
    said = box.run("/root/probe --version; rm /root/probe", check=False)
    if wants_a_newer_c_library(said):
        raise Impossible(f"the binary was built with a newer C library than Debian {SUITE}'s: build it there\n{said.strip()}")


def wants_a_newer_c_library(said):
    """Whether that is why a program did not start, by what ld.so(8) said."""
    return re.search(r"GLIBC\w*_[\d.]+' not found", said) is not None


def it_installs_and_starts_nothing(service, deb):
    service.install(deb)
    assert service.show("ActiveState") == "inactive" and not service.is_enabled()
    service.box.run("consign --version")
    for path in [
        "usr/share/man/man1/consign.1.gz",
        "usr/share/man/man1/consign-plugin-inspect.1.gz",
        "usr/share/man/man1/consign-ledger-backup.1.gz",
        "usr/share/bash-completion/completions/consign",
        "usr/share/zsh/vendor-completions/_consign",
        "usr/share/fish/vendor_completions.d/consign.fish",
        "usr/share/doc/consign/service.md",
        "usr/share/doc/consign/examples/consign.example.toml",
    ]:
        assert service.box.path(path).is_file(), f"{path} is not there"
    assert service.box.run("dpkg-query --showformat='${Conffiles}' --show consign").split()[0] == "/etc/consign/consign.toml"
    owner = service.box.run(f"stat -c '%F %u %g %a' {CREDENTIALS}").strip()
    assert owner == "directory 0 0 700", owner
    said = service.box.run(f"systemd-analyze verify --man=no {UNIT} 2>&1")
    assert said == "", said


def it_starts_with_the_shipped_configuration(service):
    service.box.run("systemctl start consign")
    assert service.show("StatusText").startswith("0 shares, no slot to come"), service.show("StatusText")
    service.box.run("systemctl stop consign")
    assert service.show("Result") == "success"


def it_starts_without_a_directory_of_secrets(service):
    service.box.run(f"rmdir {CREDENTIALS}; systemctl start consign")
    assert service.show("ActiveState") == "active"
    service.box.run(f"systemctl stop consign; mkdir -m 0700 {CREDENTIALS}")


def it_delivers_as_a_user_without_rights(service):
    service.set_up()
    service.box.run("systemctl enable --now consign")
    assert service.show("StatusText").startswith("1 share, next slot 20"), service.show("StatusText")
    service.until_delivering()
    status = service.box.run(f"cat /proc/{service.pid()}/status")
    field = lambda name: re.search(rf"^{name}:\s*(.*)$", status, re.M).group(1).split()
    user = int(field("Uid")[0])
    assert 61184 <= user <= 65519, f"user {user} is not one of DynamicUser's"
    # Root could read the secrets anywhere; the service has copies.
    copies = service.box.run(f"ls /run/credentials/{UNIT}").split()
    assert {"consign_aws-key-id", "consign_aws-secret"} <= set(copies), copies
    assert set(field("CapEff") + field("CapBnd")) == {"0" * 16}, status
    assert field("NoNewPrivs") == ["1"] and field("Seccomp") == ["2"], status
    owner, mode = service.box.run(f"stat -c '%u %a' {STATE}").split()
    assert (int(owner), mode) == (user, "700"), f"{STATE}: {owner} {mode}"
    assert "ledger.db" in service.box.run(f"ls {STATE}").split()


def its_plugins_have_processes_of_their_own(service):
    """The unit lets them put up every layer but namespaces, which it refuses to all."""
    entries = [entry["MESSAGE"].replace('"', "") for entry in service.journal()]
    entries = [entry for entry in entries if "has processes of its own" in entry]
    assert entries, "no entry says so"
    for entry in entries:
        assert "plugin=jsonl" in entry and "seccomp=true" in entry, entry
        assert re.search(r"landlock=(full|partial|the kernel has none)", entry), entry


def its_log_has_priorities_and_no_colours(service):
    entries = service.journal()
    delivered = [entry for entry in entries if ": delivered " in entry["MESSAGE"]]
    assert delivered, "no entry says `delivered`"
    for entry in delivered:
        assert entry["PRIORITY"] == "6", entry
        assert all(field in entry["MESSAGE"] for field in ["run=", "share=tick", "customer=acme", "attempt=1"]), entry
    for entry in entries:
        # journald gives what it cannot print as a list of numbers.
        assert isinstance(entry["MESSAGE"], str) and "\x1b" not in entry["MESSAGE"], entry
        assert not re.match(r"<\d>|\d{4}-\d\d-\d\dT", entry["MESSAGE"]), entry


def it_resumes_after_kill_9(service):
    with service.endpoint_stopped():
        left = service.run_at_work()
        restarts, pid = int(service.show("NRestarts")), service.pid()
        service.box.run("systemctl kill --kill-who=main --signal=KILL consign")
        until("systemd starts it again", SOON, lambda: int(service.show("NRestarts")) == restarts + 1)
        until("it is up", SOON, lambda: service.show("ActiveState") == "active" and service.pid() != pid)
    service.until_succeeded(left)
    assert service.logged("resuming what an earlier process left")


def it_is_killed_and_restarted_when_it_hangs(service):
    restarts = int(service.show("NRestarts"))
    time.sleep(2 * WATCHDOG_S)
    assert int(service.show("NRestarts")) == restarts, "it was restarted though it did not hang"
    began = time.monotonic()
    service.box.run("systemctl kill --kill-who=main --signal=STOP consign")
    until("systemd notices", SOON, lambda: int(service.show("NRestarts")) == restarts + 1)
    took = time.monotonic() - began
    assert took > WATCHDOG_S - 2, f"{took:.1f} s are less than the watchdog's"
    assert "Watchdog timeout" in service.box.run("journalctl --no-pager --unit consign --since -2min")
    service.until_delivering()


def a_bad_configuration_is_refused_at_the_start(service):
    path = service.box.path("/etc/consign/consign.toml")
    good = path.read_text()
    path.write_text(good.replace('bucket = "acme-data"', 'bucket = "Acme"'))
    service.fails_to_start("restart")
    errors = [entry["MESSAGE"] for entry in service.journal("--priority=err")]
    assert any("consign.toml" in error for error in errors), errors
    assert any("Acme" in error for error in errors), errors
    path.write_text(good)
    # Nobody has to say so.
    until("it starts when the configuration is good", SOON, lambda: service.show("ActiveState") == "active")
    service.until_delivering()


def missing_files_keep_no_other_share_from_running(service):
    """Its own share will fail until they are there; the others are delivered."""
    path = service.box.path("/etc/consign/consign.toml")
    good = path.read_text()
    other = good[good.index("[shares.tick]") :].replace("[shares.tick]", "[shares.later]")
    other = other.replace('dataset = "flights"', 'dataset = "later"')
    dataset = '[datasets.later]\ntables.flights = "/srv/data/later/*.parquet"\ntenant_column = "carrier"\n'
    path.write_text(good + dataset + other)
    service.box.run("systemctl restart consign")
    service.until_delivering()
    assert service.show("StatusText").startswith("2 shares"), service.show("StatusText")
    path.write_text(good)
    service.box.run("systemctl restart consign")
    service.until_delivering()
    of_later = lambda: [run for run in service.runs() if run["share"] == "later" and run["state"] == "running"]
    until("what is no longer configured has ended", SOON, lambda: not of_later())


def a_reload_takes_a_good_configuration(service):
    pid = service.pid()
    with service.endpoint_stopped():
        left = service.run_at_work()
        service.configure("[shares.tick]", '[shares.tick]\nkey = "second/{share}/{slot:%Y-%m-%d}/{slot:%H%M%SZ}/{name}"')
        service.box.run("systemctl reload consign")
        assert service.show("ActiveState") == "active" and service.pid() == pid
        assert "generation 2 since" in service.box.run("consign status")
    service.until_succeeded(left)
    bucket = service.box.path("/srv/buckets/acme-data/in")
    until("the new key is used", SOON, lambda: list(bucket.glob("second/tick/*/*/_manifest.json")))


def a_reload_refuses_a_bad_configuration(service):
    pid = service.pid()
    service.configure('bucket = "acme-data"', 'bucket = "Acme"')
    said = service.box.fails("systemctl reload consign 2>&1")
    assert "failed" in said, said
    assert service.show("ActiveState") == "active" and service.pid() == pid
    assert service.show("StatusText").startswith("the new configuration is refused"), service.show("StatusText")
    assert any("Acme" in entry["MESSAGE"] for entry in service.journal("--priority=err"))
    service.until_delivering()
    assert "its files were refused" in service.box.run("consign status")
    service.configure('bucket = "Acme"', 'bucket = "acme-data"')
    service.box.run("systemctl reload consign")
    assert service.show("StatusText").startswith("1 share"), service.show("StatusText")


def a_missing_secret_is_not_tried_again(service):
    service.configure('"aws-secret"', '"nope"')
    service.fails_to_start("restart")
    assert service.show("ActiveState") == "failed", service.show("ActiveState")
    assert service.show("ExecMainStatus") == "3", service.show("ExecMainStatus")
    service.configure('"nope"', '"aws-secret"')
    service.box.run("systemctl start consign")
    service.until_delivering()


def a_stop_waits_for_deliveries(service):
    with service.endpoint_stopped():
        left = service.run_at_work()
        service.box.run("systemctl stop --no-block consign")
        time.sleep(3 * STOP_S)
        assert service.show("ActiveState") == "deactivating", service.show("ActiveState")
        status = service.show("StatusText")
        assert re.fullmatch(r"stopping: \d+ at work, cut off in [45]\d s", status), status
    until("it has stopped", SOON, lambda: service.show("ActiveState") == "inactive")
    assert service.show("Result") == "success"
    assert service.state_of(left) == "succeeded", "the delivery did not finish"


def a_stop_waits_no_longer_than_drain_timeout(service):
    service.configure('drain_timeout = "60s"', 'drain_timeout = "4s"')
    service.box.run("systemctl start consign")
    with service.endpoint_stopped():
        left = service.run_at_work()
        began = time.monotonic()
        service.box.run("systemctl stop consign")
        took = time.monotonic() - began
        assert 4 <= took < 15, f"the stop took {took:.1f} s"
        assert service.show("Result") == "success"
        assert service.state_of(left) == "running"
    service.configure('drain_timeout = "4s"', 'drain_timeout = "60s"')
    service.box.run("systemctl start consign")
    service.until_succeeded(left)


def a_second_signal_ends_it_at_once(service):
    with service.endpoint_stopped():
        left = service.run_at_work()
        service.box.run("systemctl stop --no-block consign")
        until("it is stopping", SOON, lambda: service.show("StatusText").startswith("stopping: "))
        began = time.monotonic()
        service.box.run("systemctl kill --kill-who=main --signal=TERM consign")
        until("it has stopped", SOON, lambda: service.show("ActiveState") == "inactive")
        took = time.monotonic() - began
        assert took < 3, f"that took {took:.1f} s"
        assert service.show("Result") == "success"
    service.box.run("systemctl start consign")
    service.until_succeeded(left)


def a_full_disk_is_said_and_passes(service):
    service.box.run("systemctl stop consign")
    size_kib = int(service.box.run(f"du --summarize --block-size=1K {STATE}").split()[0])
    service.box.run(f"""
        cp -a {STATE} /root/state
        mount -t tmpfs -o size={size_kib + 16 * 1024}k,mode=0700 tmpfs {STATE}
        cp -a /root/state/. {STATE}/
        systemctl start consign
    """)
    service.until_delivering()
    service.box.run(f"dd if=/dev/zero of={STATE}/filler bs=4k 2>/dev/null || true")
    full = "the disk of the ledger is full"
    until("it says that the disk is full", SOON, lambda: service.show("StatusText").startswith(full))
    pid = service.pid()
    service.box.run(f"rm {STATE}/filler")
    until("it says so no more", SOON, lambda: not service.show("StatusText").startswith(full))
    service.until_delivering()
    assert service.pid() == pid, "it was restarted"
    # Of another share some runs have failed, as they should.
    undone = lambda: [run for run in service.runs()[3:] if run["share"] == "tick" and run["state"] != "succeeded"]
    until("all is delivered", SOON, lambda: not undone())
    service.box.run(f"""
        systemctl stop consign
        rm -r /root/state
        cp -a {STATE} /root/state
        umount {STATE}
        rm -r {STATE}
        mv /root/state {STATE}
        systemctl start consign
    """)


def a_send_by_hand_has_the_units_rights(service):
    """The daemon makes it, with its own credentials."""
    # The schedule may have the latest slot at work at that moment.
    sent = lambda: "delivered" in service.box.run("consign send tick", check=False)
    until("a send by hand delivers", SOON, sent)
    mode = service.box.run(f"stat -c '%F %a' {STATE}/consign.sock").strip()
    assert mode == "socket 600", mode
    service.box.fails("setpriv --reuid=nobody --clear-groups consign status 2>&1")
    service.box.run("consign pause tick")
    assert "share tick is paused" in service.box.run("consign status")
    service.box.run("consign resume tick")
    service.until_delivering()


def an_upgrade_keeps_state_and_configuration(service, newer):
    before, pid, configuration = service.runs()[0]["run"], service.pid(), service.configuration()
    service.install(newer)
    # The next version ships another one, which nobody has asked for.
    offered = service.box.path("/etc/consign/consign.toml.dpkg-dist").read_text()
    assert NEW_LINE in offered and NEW_LINE not in configuration
    assert service.box.run("dpkg-query --showformat='${Version}' --show consign") == version(newer)
    assert service.show("ActiveState") == "active" and service.is_enabled()
    assert service.pid() != pid, "the old binary still runs"
    assert service.configuration() == configuration
    service.until_succeeded(before)
    service.until_delivering()


def an_upgrade_migrates_an_old_ledger(service, newest):
    """What the first version left is in the history, and is gone on from."""
    # Of a share of the same name every second since then would be made up for.
    service.configure("[shares.tick]", "[shares.tock]")
    service.configure("[daemon]", '[ledger]\nretention = "36500d"\n[daemon]')
    service.box.run("systemctl stop consign")
    old = CHECKOUT / "tests/golden/ledger/1.db"
    version_was, runs = ledger_of(old)
    service.box.run(f"rm {STATE}/ledger.db*")
    shutil.copy(old, service.box.path(f"{STATE}/ledger.db"))
    service.box.run(f"chown --reference={STATE} {STATE}/ledger.db")
    service.install(newest)
    service.box.run("systemctl start consign")
    service.until_delivering()
    history = {run["run"]: run["state"] for run in service.runs()}
    for run, state in runs.items():
        assert history[run] == ("failed" if state == "running" else state), f"{run} was {state}: {history}"
    service.box.run("systemctl stop consign")
    version_is, _ = ledger_of(service.box.path(f"{STATE}/ledger.db"))
    versions = len(list((CHECKOUT / "host/ledger").glob("0*.sql")))
    assert (version_was, version_is) == (1, versions), f"{version_was} became {version_is} of {versions}"
    service.box.run("consign ledger check")


def a_removal_keeps_state_and_configuration(service):
    configuration = service.configuration()
    service.box.run("dpkg --remove consign")
    assert service.show("ActiveState") == "inactive"
    assert not service.box.path("/usr/bin/consign").exists()
    assert service.configuration() == configuration
    service.box.run(f"test -s {STATE}/ledger.db")


def it_comes_back_as_it_was(service, newest):
    service.install(newest)
    assert service.is_enabled()
    before = len(service.runs())
    assert before > 0
    service.box.run("systemctl start consign")
    service.until_delivering()
    service.box.run("systemctl stop consign")
    assert len(service.runs()) > before


def a_purge_leaves_nothing(service, newest):
    service.box.run("systemctl start consign")
    service.box.run("dpkg --purge consign")
    service.box.run(f"rm -r {os.path.dirname(DROP_IN)}; systemctl daemon-reload")
    assert service.show("LoadState") == "not-found", service.show("LoadState")
    left = service.box.run("find / -xdev -path /proc -prune -o -path /sys -prune -o -name '*consign*' -print").split()
    # What is there is this test's, and the journal's.
    assert set(left) <= {"/etc/consign", CREDENTIALS}, left
    left = service.box.run("find /etc/consign -type f").split()
    assert set(map(os.path.dirname, left)) == {CREDENTIALS}, left
    # Where nobody has put a secret there is nothing to keep.
    service.box.run(f"rm {CREDENTIALS}/*")
    service.install(newest)
    service.box.run("dpkg --purge consign")
    assert not service.box.path("/etc/consign").exists()


class Service:
    """The service in the box, and the endpoint that it delivers to."""

    def __init__(self, box):
        self.box = box

    def install(self, deb):
        shutil.copy(deb, self.box.path("/root/consign.deb"))
        # As apt-get does where nobody is there to be asked.
        self.box.run("dpkg --force-confdef --force-confold --install /root/consign.deb && rm /root/consign.deb")

    def set_up(self):
        """A share that fires every second, to a sandbox in the same box."""
        data = self.box.path("/srv/data")
        data.mkdir()
        shutil.copy(CHECKOUT / "config/demo/flights.parquet", data)
        credentials = self.box.path(CREDENTIALS)
        (credentials / "aws-key-id").write_text("AKIACONSIGNSANDBOX00")
        (credentials / "aws-secret").write_text("consign-sandbox-secret")
        port = free_port()
        self.box.path("/etc/consign/consign.toml").write_text(
            CONFIGURATION.replace("@PORT@", str(port)),
        )
        drop_in = self.box.path(DROP_IN)
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text(
            "[Service]\n"
            f"WatchdogSec={WATCHDOG_S}s\nTimeoutStopSec={STOP_S}s\nRestartSec=1s\n"
            "[Unit]\nStartLimitIntervalSec=0\n"
        )
        self.box.run(
            "systemctl daemon-reload; mkdir /srv/buckets; systemd-run --quiet --unit=endpoint"
            f" --property=LoadCredential=consign:{CREDENTIALS}"
            f" consign sandbox --dir /srv/buckets --listen 127.0.0.1:{port}"
        )
        until("the endpoint listens", SOON, lambda: listens(port))

    def configuration(self):
        return self.box.path("/etc/consign/consign.toml").read_text()

    def configure(self, old, new):
        text = self.configuration()
        assert old in text
        self.box.path("/etc/consign/consign.toml").write_text(text.replace(old, new))

    @contextmanager
    def endpoint_stopped(self):
        """What is being delivered meanwhile stays at work."""
        self.box.run("systemctl kill --signal=STOP endpoint")
        try:
            yield
        finally:
            self.box.run("systemctl kill --signal=CONT endpoint")

    def show(self, name):
        return self.box.run(f"systemctl show --property={name} --value {UNIT}").strip()

    def is_enabled(self):
        return self.box.run(f"systemctl is-enabled {UNIT}", check=False).strip() == "enabled"

    def pid(self):
        return int(self.show("MainPID"))

    def fails_to_start(self, verb):
        self.box.fails(f"systemctl {verb} consign 2>/dev/null")
        assert self.show("ActiveState") != "active"

    def journal(self, *options):
        lines = self.box.run(f"journalctl --output=json --unit=consign _COMM=consign {' '.join(options)}").splitlines()
        return [json.loads(line) for line in lines]

    def logged(self, words):
        return any(words in entry["MESSAGE"] for entry in self.journal())

    def runs(self):
        """Newest first."""
        return json.loads(self.box.run("consign history -n 100000 --json"))

    def state_of(self, run):
        return next(of["state"] for of in self.runs() if of["run"] == run)

    def run_at_work(self):
        """A run that stays at work while the endpoint stands still, by its id."""

        def at_work():
            running = [run["run"] for run in self.runs() if run["state"] == "running"]
            if not running:
                return None
            # All of it may have been stored before the endpoint stopped.
            time.sleep(1)
            return running[-1] if self.state_of(running[-1]) == "running" else None

        return until("a run is at work", SOON, at_work)

    def until_succeeded(self, run):
        until("the run has succeeded", SOON, lambda: self.state_of(run) == "succeeded")

    def until_delivering(self):
        """A run succeeds that began after this."""
        known = {run["run"] for run in self.runs()}
        new = lambda: [run for run in self.runs() if run["run"] not in known and run["state"] == "succeeded"]
        until("another run succeeds", SOON, new)
        manifests = list(self.box.path("/srv/buckets/acme-data").rglob("_manifest.json"))
        assert manifests, "there is no manifest in the bucket"


CONFIGURATION = """\
[daemon]
drain_timeout = "60s"
[aws]
region = "us-east-1"
endpoint_url = "http://127.0.0.1:@PORT@"
access_key_id = { credential = "aws-key-id" }
secret_access_key = { credential = "aws-secret" }
[customers.acme]
role_arn = "arn:aws:iam::100000000001:role/flight-data"
external_id = "test-1f-acme"
bucket = "acme-data"
region = "us-east-1"
prefix = "in/"
params = { carrier = "AS" }
[datasets.flights]
tables.flights = "/srv/data/flights.parquet"
tenant_column = "carrier"
[plugins.jsonl]
isolation = "process"
[shares.tick]
schedule = "* * * * * *"
dataset = "flights"
plugin = "jsonl"
to = { customers = ["acme"] }
"""


NEW_LINE = "# of the next version\n"


def next_version(deb, dir, number):
    """The same package, some revisions on, with another configuration to begin with."""
    tree, newer = dir / "deb", dir / f"newer-{number}.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*", lambda line: line.group() + f"+next{number}", control.read_text()))
    with (tree / "etc/consign/consign.toml").open("a") as shipped:
        shipped.write(NEW_LINE)
    subprocess.run(["dpkg-deb", "--build", "-Znone", tree, newer], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return newer


def ledger_of(path):
    """The version of its schema, and its runs with their states; of one that nobody has open."""
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    with closing(connection):
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        return number, dict(connection.execute("SELECT id, state FROM runs"))


def version(deb):
    return subprocess.run(["dpkg-deb", "--field", deb, "Version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main())
