//! The offsets themselves. All other tests of the calendar, the independent rule
//! included, have theirs from the same library; here they are compared with the
//! machine's own zones, as Python reads them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use chrono::{Offset, TimeZone};
use chrono_tz::{IANA_TZDB_VERSION, TZ_VARIANTS, Tz};
use consign::clock::Instant;

use super::utc;

/// Steps in which both sides look for changes: two changes within one are not seen as such.
const STEP_S: i64 = 4 * 86_400;

/// From 2000 up to 2038, which is as far as files of zones go.
const YEARS: [&str; 2] = ["2000-01-01T00:00:00Z", "2038-01-01T00:00:00Z"];

/// Prints a line for each zone: its name, the offset at the beginning, and each change
/// as `instant:offset`, all in seconds.
const PYTHON: &str = r#"
import sys, zoneinfo
from datetime import datetime, timezone
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

#[test]
fn every_zone_changes_as_the_machines_own() {
    let release = std::fs::read_to_string("/usr/share/zoneinfo/tzdata.zi").unwrap_or_default();
    let release = release.lines().next().and_then(|line| line.strip_prefix("# version ")).unwrap_or("unknown");
    if release != IANA_TZDB_VERSION {
        println!("not tested: this machine has zones of {release}, and the calendar those of {IANA_TZDB_VERSION}");
        return;
    }
    let years = YEARS.map(|at| utc(at).timestamp());
    let [start, end] = years.map(|at| at.to_string());
    // Of this machine, whatever other zones Python has.
    let ran = Command::new("python3")
        .env("PYTHONTZPATH", Path::new("/usr/share/zoneinfo"))
        .args(["-c", PYTHON, &start, &end, &STEP_S.to_string()])
        .output();
    let ran = match ran {
        Ok(ran) if ran.status.success() => ran,
        ran => {
            println!("not tested: there is no Python with zoneinfo: {ran:?}");
            return;
        }
    };
    let text = String::from_utf8(ran.stdout).unwrap();
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
