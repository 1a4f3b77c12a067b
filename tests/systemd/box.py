"""A Debian of its own with a real systemd as PID 1, in systemd-nspawn."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

SUITE = "bookworm"
# dbus for `systemd-run --wait`.
PACKAGES = ["systemd", "systemd-sysv", "dbus", "ca-certificates"]
# A mirror that does not answer is no reason to wait for ever.
DEBOOTSTRAP_S = 15 * 60


class Impossible(Exception):
    """There can be no such Debian on this machine; it says why."""


class Missing(Impossible):
    """There is none yet, and there could be one."""


class Box:
    """Boots a fresh copy of the cached root file system; everything of it is gone
    when the `with` ends."""

    def __init__(self, cache):
        self.base = base(cache)

    def __enter__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="consign-box-"))
        try:
            return self.boot()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    def boot(self):
        self.nspawn = None
        self.root = self.dir / "root"
        # Copied by the kernel alone where the file system can.
        subprocess.run(["cp", "-a", "--reflink=auto", self.base, self.root], check=True)
        (self.root / "etc/hostname").write_text("box\n")
        self.log = self.dir / "nspawn.log"
        with self.log.open("wb") as log:
            command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe"]
            command += ["--directory", self.root, "--machine", f"consign-box-{os.getpid()}", "--boot"]
            self.nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.leader = until("systemd-nspawn has a child", 30, self.find_leader)
            until("systemd is up", 60, self.is_up)
        except AssertionError as failed:
            if self.starts_anything():
                raise AssertionError(f"{failed}\n{self.console()}") from failed
            raise Impossible(f"systemd-nspawn does not work here: {failed}\n{self.console()}") from failed
        return self

    def starts_anything(self):
        """Whether systemd-nspawn works on this machine, whatever became of this system."""
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--pipe"]
        command += ["--directory", self.base, "--volatile=yes", "--machine", f"consign-probe-{os.getpid()}", "true"]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60).returncode == 0

    def find_leader(self):
        if self.nspawn.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended with {self.nspawn.returncode}")
        children = Path(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def is_up(self):
        return self.run("systemctl is-system-running", check=False).strip() in ("running", "degraded")

    def stop(self):
        if self.nspawn is not None and self.nspawn.poll() is None:
            leader = getattr(self, "leader", None)
            if leader is not None:
                os.kill(leader, signal.SIGRTMIN + 4)  # systemd: power off
            try:
                self.nspawn.wait(30)
            except subprocess.TimeoutExpired:
                self.nspawn.kill()
                self.nspawn.wait()
        shutil.rmtree(self.dir)

    def run(self, command, check=True):
        """Runs a shell command inside and returns what it printed, stderr too."""
        inside = ["nsenter", "--target", str(self.leader), "--all", "sh", "-c", command]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        ran = subprocess.run(
            inside,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert not check or ran.returncode == 0, f"`{command}` ended with {ran.returncode}:\n{ran.stdout}"
        return ran.stdout

    def fails(self, command):
        """Runs a command that must not succeed."""
        said = self.run(f"if {command}; then echo IT-SUCCEEDED; fi")
        assert "IT-SUCCEEDED" not in said, f"`{command}` succeeded"
        return said

    def path(self, inside):
        """A file of the box, seen from outside."""
        return self.root / inside.lstrip("/")

    def console(self):
        return self.log.read_text(errors="replace")[-4000:]


def base(cache):
    """The root file system, made by debootstrap once."""
    for tool, package in [("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap")]:
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is missing: on Debian, apt-get install {package}")
    if os.geteuid() != 0:
        raise Impossible("systemd-nspawn and debootstrap want root")
    ready = cache / "-".join(["box", SUITE, *PACKAGES])
    if ready.exists():
        return ready
    cache.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    # In the same directory, so that it can be renamed when it is whole.
    making = Path(tempfile.mkdtemp(prefix="box-making-", dir=cache))
    try:
        making.chmod(0o755)
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, making]
        try:
            made = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEBOOTSTRAP_S
            )
        except subprocess.TimeoutExpired as late:
            raise Missing(f"debootstrap took longer than {DEBOOTSTRAP_S} s: does the mirror answer?") from late
        if made.returncode != 0:
            raise Missing(f"debootstrap failed:\n{made.stdout[-4000:]}")
        shutil.rmtree(making / "var/cache/apt/archives", ignore_errors=True)
        if not ready.exists():  # another run may have been quicker
            making.rename(ready)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    print(f"made a root file system in {time.monotonic() - began:.0f} s: {ready}", flush=True)
    return ready


def until(what, seconds, done):
    """Asks until the answer is something, and returns that."""
    end = time.monotonic() + seconds
    while True:
        answer = done()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.1)
