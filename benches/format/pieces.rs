//! The same rows through one instance, and in pieces through as many as the machine
//! has cores; and by the native code on one thread, and on as many threads, which tells
//! what there is to gain: cores of a virtual machine are not always whole ones.

use std::num::NonZeroU64;
use std::thread::{self, available_parallelism};
use std::time::Duration;

use consign::domain::{Failure, OutputEvent};
use consign::limits::Isolation;
use consign::plugin::{Component, Crew, Pieces, in_pieces};
use futures::stream;
use tokio::sync::mpsc;

use crate::{Data, FORMATS, Format, ROUNDS, Sandbox, Targets, job, median, timed};

const MEASURED: [&str; 3] = ["csv", "jsonl", "parquet"];

/// A share is in pieces because it is large: so many datasets, each a piece. With the usual 1,000,000 rows that is
/// what the documentation has for an example.
const PIECES: usize = 8;

/// Rows that are read ahead, as the daemon has it unless told otherwise.
const AHEAD_BYTES: usize = 256 << 20;

pub fn report(sandbox: &Sandbox, data: &Data, targets: &mut Targets) {
    let cores = available_parallelism().map_or(1, usize::from);
    println!(
        "\n{}, {PIECES} times, in as many pieces: MB/s by wall time, medians of {ROUNDS} rounds (parquet: one round)",
        data.name
    );
    let heads = [
        "one instance",
        "1 at once",
        &format!("{cores} at once"),
        "ratio",
        "native, 1",
        &format!("native, {cores}"),
        "ratio",
    ];
    println!("{:12}{}", "", heads.map(|head| format!("{head:>14}")).concat());
    let large = data.times(PIECES);
    let (data, parts) = (&large, large.parts(cores));
    for format in FORMATS.iter().filter(|format| MEASURED.contains(&format.name)) {
        let component = sandbox.load(format.name, Isolation::InProcess);
        // It takes minutes for each.
        let rounds = if format.name == "parquet" { 1 } else { ROUNDS };
        let ways: [Box<dyn Fn() -> u64>; 5] = [
            Box::new(|| sandbox.write(&component, data, "{}")),
            Box::new(|| write(sandbox, &component, data, 1)),
            Box::new(|| write(sandbox, &component, data, cores)),
            Box::new(|| (format.native)(data, "{}")),
            Box::new(|| side_by_side(format, &parts)),
        ];
        let (mut walls, mut bytes) = ([const { Vec::<Duration>::new() }; 5], 0);
        for round in 0..=rounds {
            for turn in 0..ways.len() {
                let way = (round + turn) % ways.len();
                let run = timed(&ways[way]);
                if way < 3 {
                    bytes = run.bytes;
                }
                if round > 0 {
                    walls[way].push(run.wall);
                }
            }
        }
        let [one, alone, together, native, threads] = walls.map(|walls| median(walls.into_iter()).as_secs_f64());
        let speed = |wall: f64| format!("{:>14.0}", bytes as f64 / 1e6 / wall);
        print!("{:12}{}{:>14.2}", format.name, [one, alone, together].map(speed).concat(), one / together);
        println!("{}{:>14.2}", [native, threads].map(speed).concat(), native / threads);
        targets.pieces(format.name, one / together, cores);
    }
}

/// The native code, a thread for each part.
fn side_by_side(format: &Format, parts: &[Data]) -> u64 {
    thread::scope(|scope| {
        let threads: Vec<_> = parts.iter().map(|part| scope.spawn(|| (format.native)(part, "{}"))).collect();
        threads.into_iter().map(|thread| thread.join().expect("the format writes a part")).sum()
    })
}

fn write(sandbox: &Sandbox, component: &Component, data: &Data, instances: usize) -> u64 {
    let crew = Crew::new(instances, AHEAD_BYTES);
    let rows = NonZeroU64::new(data.rows.div_ceil(PIECES) as u64).expect("rows");
    let pieces = Pieces { rows, at_once: usize::MAX };
    let batches = stream::iter(data.batches.clone().into_iter().map(Ok));
    let drop_all = |_, mut events: mpsc::Receiver<OutputEvent>| async move {
        while events.recv().await.is_some() {}
        Ok::<(), Failure>(())
    };
    let made = in_pieces(component.clone(), job(data, "{}"), batches, (&pieces, &crew), drop_all);
    let made = sandbox.runtime.block_on(made).expect("the format writes the dataset");
    assert_eq!(made.rows, data.rows as u64);
    made.bytes_out
}
