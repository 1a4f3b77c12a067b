//! The project's targets of speed.

use std::path::Path;
use std::time::Duration;

use consign::limits::Isolation;

use crate::{CPU, Data, Run, Sandbox, Time, WALL, WORKER, median, starts, templates};

/// Against the same code native, and against Arrow's writer, in CPU time.
const FORMATS: [(&str, f64, Option<f64>); 3] =
    [("csv", 0.70, Some(2.2)), ("jsonl", 0.70, Some(1.5)), ("parquet", 0.65, None)];

/// Of the throughput in the daemon's own process, in wall time of the fastest runs; what a run without
/// rows takes is taken off both, and has a target of its own.
const PROCESS: f64 = 0.90;

/// Of the throughput of one instance, for each core.
const PIECES: f64 = 0.90;

/// Of the shipped csv's rows, for a plugin of the C template; and MB/s of one of Python's.
const C: f64 = 0.80;
const PYTHON: f64 = 20.0;

const START_OF_RUN: Duration = Duration::from_millis(1);
const START_OF_PROCESS: Duration = Duration::from_millis(50);
const CACHED: Duration = Duration::from_millis(5);
const FIFTY_CACHED: Duration = Duration::from_millis(300);

/// What was measured of each, the worst of several datasets.
#[derive(Default)]
pub struct Targets {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    measured: f64,
    target: Target,
}

enum Target {
    /// A ratio.
    AtLeast(f64),
    /// MB/s.
    Speed(f64),
    /// Milliseconds.
    Under(f64),
}

impl Targets {
    /// The ratios of one format on one dataset. `nothing` measures a run without rows in the daemon's
    /// process and in one of its own.
    pub fn formats(&mut self, format: &str, runs: &[Vec<Run>; 4], nothing: impl FnOnce() -> [Duration; 2]) {
        let Some((_, native, arrow)) = FORMATS.iter().find(|(name, ..)| *name == format) else { return };
        let time = |side: usize, time: Time| median(runs[side].iter().map(time)).as_secs_f64();
        let ratio = |side: usize, clock: Time| time(side, clock) / time(0, clock);
        self.add(format!("{format}, against the same code native"), ratio(1, CPU), Target::AtLeast(*native));
        if let Some(arrow) = arrow {
            self.add(format!("{format}, against Arrow's native writer"), ratio(2, CPU), Target::AtLeast(*arrow));
        }
        let [within, own] = nothing().map(|time| time.as_secs_f64());
        // Of the fastest: two processes at work at the same time have what else the machine does between them.
        let fastest = |side: usize| runs[side].iter().map(WALL).min().unwrap_or_default().as_secs_f64();
        let isolated = (fastest(0) - within) / (fastest(3) - own);
        self.add(
            format!("{format}, in a process of its own against in the daemon's"),
            isolated,
            Target::AtLeast(PROCESS),
        );
        let (own, most) = (own * 1e3, START_OF_PROCESS.as_secs_f64() * 1e3);
        self.add(format!("{format}, a run without rows in a process of its own"), own, Target::Under(most));
    }

    /// What does not depend on the rows.
    pub fn starts(&mut self, sandbox: &Sandbox, data: &Data) {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let mut under = |what: String, measured: Duration, most: Duration| {
            self.add(what, milliseconds(measured), Target::Under(milliseconds(most)));
        };
        for (format, ..) in FORMATS {
            let component = sandbox.load(format, Isolation::InProcess);
            let nothing = starts::run_of_nothing(sandbox, &component, data);
            under(format!("{format}, a run without rows, start to end"), nothing, START_OF_RUN);
            let cached = starts::cached(format, Isolation::InProcess, Path::new(WORKER));
            under(format!("{format}, loading it from the cache"), cached, CACHED);
        }
        for (isolation, where_to) in [(Isolation::InProcess, ""), (Isolation::Process, ", each into a process")] {
            let many = starts::many(isolation, Path::new(WORKER));
            under(format!("50 plugins, loading them from the cache{where_to}"), many, FIFTY_CACHED);
        }
    }

    /// One instance's wall time by that of one instance a core.
    pub fn pieces(&mut self, format: &str, ratio: f64, cores: usize) {
        let least = Target::AtLeast(if cores > 1 { PIECES * cores as f64 } else { 0.0 });
        self.add(format!("{format}, {cores} instances side by side against one"), ratio, least);
    }

    pub fn templates(&mut self) {
        println!("\n{:17}{:>14}{:>26}", "template", "MB/s", "rows of the shipped csv's");
        for language in templates::LANGUAGES {
            let Some(templates::Measured { megabytes, rows }) = templates::measure(language) else {
                println!("{language:17}{:>14}", "not measured");
                continue;
            };
            println!("{language:17}{megabytes:>14.1}{rows:>26.2}");
            match language {
                "c" => self.add("C's template, against the shipped csv".into(), rows, Target::AtLeast(C)),
                "python" => self.add("Python's template".into(), megabytes, Target::Speed(PYTHON)),
                _ => {}
            }
        }
    }

    /// Prints all of them, and says whether all are met.
    pub fn report(&self) -> bool {
        println!("\n{:58}{:>12}{:>12}  met", "the worst of both datasets", "measured", "target");
        let mut all_met = true;
        for Row { what, measured, target } in &self.rows {
            let (measured, wanted, met) = match target {
                Target::AtLeast(least) => (format!("{measured:.2}"), format!("{least:.2}"), measured >= least),
                Target::Speed(least) => (format!("{measured:.1} MB/s"), format!("{least:.0} MB/s"), measured >= least),
                Target::Under(most) => (format!("{measured:.2} ms"), format!("< {most:.0} ms"), measured < most),
            };
            println!("{what:58}{measured:>12}{wanted:>12}  {}", if met { "yes" } else { "NO" });
            all_met &= met;
        }
        all_met
    }

    fn add(&mut self, what: String, measured: f64, target: Target) {
        match self.rows.iter_mut().find(|row| row.what == what) {
            Some(row) => {
                row.measured = match target {
                    Target::AtLeast(_) | Target::Speed(_) => row.measured.min(measured),
                    Target::Under(_) => row.measured.max(measured),
                };
            }
            None => self.rows.push(Row { what, measured, target }),
        }
    }
}
