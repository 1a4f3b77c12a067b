"""What decides whether the tests under a real systemd can run here: without one."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import run


class Skipping(unittest.TestCase):
    def test_a_newer_c_library_is_told_from_other_failures(self):
        said = start(lambda program: re.sub(rb"GLIBC_2\.\d+(?=\0)", lambda found: found[0].replace(b"2", b"9", 1), program))
        self.assertTrue(run.wants_a_newer_c_library(said), said)
        for other in [start(lambda program: program), start(lambda program: program.replace(b"libc.so.6", b"libc.so.9"))]:
            self.assertFalse(run.wants_a_newer_c_library(other), other)

    def test_a_machine_that_cannot_is_skipped_only_when_asked(self):
        cannot, could = run.Impossible("no box"), run.Missing("no box")
        for why, must, arguments, code, word in [
            (cannot, False, [], 1, "error: no box"),
            (cannot, False, ["--or-skip"], 0, "skipped: no box"),
            (cannot, True, ["--or-skip"], 0, "skipped: no box"),
            (could, False, ["--or-skip"], 0, "skipped: no box"),
            (could, True, ["--or-skip"], 1, "error: no box"),
        ]:
            told = io.StringIO()
            no_box = mock.patch.object(run, "Box", side_effect=why)
            must = mock.patch.object(run, "MUST_TEST", must)
            arguments = mock.patch("sys.argv", ["run.py", *arguments, "consign.deb"])
            with no_box, must, arguments, contextlib.redirect_stderr(told):
                self.assertEqual(run.main(), code)
            self.assertIn(word, told.getvalue())


def start(change):
    """What a program says that is like this machine's own but for this change."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "probe"
        program.write_bytes(change(Path(shutil.which("true")).read_bytes()))
        program.chmod(0o755)
        environment = {**os.environ, "LC_ALL": "C"}
        ran = subprocess.run([program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return ran.stdout


if __name__ == "__main__":
    unittest.main()
