//! The same rows through one instance, and in pieces through as many as the machine
//! has cores.

use std::num::NonZeroU64;
use std::thread::available_parallelism;
use std::time::Duration;

use consign::domain::{Failure, OutputEvent};
use consign::limits::Isolation;
use consign::plugin::{Component, Crew, Pieces, in_pieces};
use futures::stream;
use tokio::sync::mpsc;

use crate::{Data, ROUNDS, Sandbox, job, median, timed};

const FORMATS: [&str; 3] = ["csv", "jsonl", "parquet"];

/// Pieces of a dataset.
const PIECES: u64 = 8;

/// Rows that are read ahead, as the daemon has it unless told otherwise.
const AHEAD_BYTES: usize = 256 << 20;

pub fn report(sandbox: &Sandbox, data: &Data) {
    let cores = available_parallelism().map_or(1, usize::from);
    println!("\n{} in {PIECES} pieces: MB/s by wall time, medians of {ROUNDS} rounds", data.name);
    println!("{:12}{:>14}{:>14}{:>14}{:>14}", "", "one instance", "1 at once", format!("{cores} at once"), "ratio");
    for format in FORMATS {
        let component = sandbox.load(format, Isolation::InProcess);
        let ways: [Box<dyn Fn() -> u64>; 3] = [
            Box::new(|| sandbox.write(&component, data, "{}")),
            Box::new(|| write(sandbox, &component, data, 1)),
            Box::new(|| write(sandbox, &component, data, cores)),
        ];
        let (mut walls, mut bytes) = ([const { Vec::<Duration>::new() }; 3], 0);
        for round in 0..=ROUNDS {
            for turn in 0..ways.len() {
                let way = (round + turn) % ways.len();
                let run = timed(&ways[way]);
                bytes = run.bytes;
                if round > 0 {
                    walls[way].push(run.wall);
                }
            }
        }
        let walls = walls.map(|walls| median(walls.into_iter()).as_secs_f64());
        print!("{format:12}");
        walls.iter().for_each(|wall| print!("{:>14.0}", bytes as f64 / 1e6 / wall));
        println!("{:>14.2}", walls[0] / walls[2]);
    }
}

fn write(sandbox: &Sandbox, component: &Component, data: &Data, instances: usize) -> u64 {
    let crew = Crew::new(instances, AHEAD_BYTES);
    let rows = NonZeroU64::new((data.rows as u64).div_ceil(PIECES)).expect("rows");
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
