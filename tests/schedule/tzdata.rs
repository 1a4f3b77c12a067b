//! The offsets themselves. All other tests of the calendar, the independent rule
//! included, have theirs from the same library; here they are compared with the
//! same release of the zones as Python reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{Offset, TimeZone};
use chrono_tz::{IANA_TZDB_VERSION, TZ_VARIANTS, Tz};
use consign::clock::Instant;

use super::utc;

/// Steps in which both sides look for changes: two changes within one are not seen as such.
const STEP_S: i64 = 4 * 86_400;

/// As in all other tests of the calendar. Files of zones list changes up to 2037, and end
/// with a rule for what comes after.
const YEARS: [&str; 2] = ["2000-01-01T00:00:00Z", "2041-01-01T00:00:00Z"];

/// PyPI's name for the release that the binary has.
const RELEASE: &str = "2025.2";

/// Prints the release, and a line for each zone: its name, the offset at the beginning, and
/// each change as `instant:offset`, all in seconds.
const PYTHON: &str = r#"
import sys, tzdata, zoneinfo
from datetime import datetime, timezone
print(tzdata.IANA_VERSION)
start, end, step = map(int, sys.argv[1:4])
for name in sorted(zoneinfo.available_timezones()):
    zone = zoneinfo.ZoneInfo(name)
    def offset(at):
        return int(datetime.fromtimestamp(at, timezone.utc).astimezone(zone).utcoffset().total_seconds())
    words, last = [name, str(offset(start))], offset(start)
    for at in range(start, end, step):
        there = offset(at + step)
        if there != last:
            low, high = at, at + step
            while high - low > 1:
                middle = (low + high) // 2
                if offset(middle) == last: low = middle
                else: high = middle
            words.append(f"{high}:{there}")
            last = there
    print(*words)
"#;

fn offset(zone: Tz, at: i64) -> i32 {
    let at = Instant::from_timestamp(at, 0).unwrap();
    zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()
}

/// The same line, of this library.
fn history(zone: Tz, [start, end]: [i64; 2]) -> String {
    let mut last = offset(zone, start);
    let mut words = vec![last.to_string()];
    for at in (start..end).step_by(STEP_S as usize) {
        let there = offset(zone, at + STEP_S);
        if there == last {
            continue;
        }
        let (mut low, mut high) = (at, at + STEP_S);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if offset(zone, middle) == last { low = middle } else { high = middle }
        }
        words.push(format!("{high}:{there}"));
        last = there;
    }
    words.join(" ")
}

/// Python in the checkout's virtual environment, with the zones of [`RELEASE`].
fn python() -> PathBuf {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv");
    let (python, marker) = (venv.join("bin/python"), venv.join(format!(".tzdata-{RELEASE}")));
    let run = |program: &Path, args: &[&str]| {
        let ran = Command::new(program).args(args).output();
        let ran = ran.unwrap_or_else(|error| panic!("{}: {error}; run `make setup`", program.display()));
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    if !marker.exists() {
        if !python.exists() {
            run(Path::new("python3"), &["-m", "venv", venv.to_str().unwrap()]);
        }
        let wanted = format!("tzdata=={RELEASE}");
        run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &wanted]);
        std::fs::write(marker, "").unwrap();
    }
    python
}

#[test]
fn every_zone_changes_as_python_says() {
    let years = YEARS.map(|at| utc(at).timestamp());
    let [start, end] = years.map(|at| at.to_string());
    // Empty: no zones of the machine, only those of the package.
    let ran = Command::new(python())
        .env("PYTHONTZPATH", "")
        .args(["-c", PYTHON, &start, &end, &STEP_S.to_string()])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = String::from_utf8(ran.stdout).unwrap();
    let (release, text) = text.split_once('\n').unwrap();
    assert_eq!(release, IANA_TZDB_VERSION, "tzdata in the Makefile and here is to be of chrono-tz's release");
    assert!(include_str!("../../Makefile").contains(&format!(" tzdata=={RELEASE}\n")), "the Makefile has another one");
    let told = format!("release {IANA_TZDB_VERSION} of the");
    assert!(include_str!("../../docs/calendar.md").contains(&told), "docs/calendar.md names another release");
    let theirs: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    let (mut compared, mut differing) = (0, Vec::new());
    for zone in TZ_VARIANTS {
        let Some(there) = theirs.get(zone.name()) else { continue };
        compared += 1;
        let here = history(zone, years);
        if here != **there {
            differing.push(format!("{}\n  here  {here}\n  there {there}", zone.name()));
        }
    }
    assert!(compared > 550, "only {compared} zones have a name that both know");
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
