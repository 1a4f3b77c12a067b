//! One delivery by several instances: the same objects whatever is at work at the same
//! time and however slow some of it is, in the daemon's process and in others.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::array::RecordBatch;
use consign::domain::{Failure, Layer, OutputEvent, Retry};
use consign::limits::Limits;
use consign::plugin::{Component, Crew, Formatted, Job, Pieces, in_pieces};
use futures::{Stream, stream};
use tokio::sync::{mpsc, oneshot};

use super::support::{Guest, hostile, job, numbers, runtime};

const MIB: usize = 1 << 20;

/// By piece and number: name, bytes, rows once it is finished.
type Objects = BTreeMap<(u32, u32), (String, Vec<u8>, Option<u64>)>;

/// Writes lines of JSON into an object of the name that it is told.
fn sloppy() -> Guest {
    static SLOPPY: OnceLock<Guest> = OnceLock::new();
    SLOPPY.get_or_init(|| Guest::load("sloppy", &Limits::default())).clone()
}

fn job_of(fault: &str) -> Job {
    job(&format!(r#"{{"fault":"{fault}"}}"#), numbers(0..1).schema())
}

/// What goes on around the pieces.
#[derive(Clone, Copy)]
struct Setting {
    instances: usize,
    ahead_bytes: usize,
    at_once: usize,
    /// Pieces whose output is taken late.
    slow: &'static [u32],
}

const ALL_AT_ONCE: Setting = Setting { instances: 8, ahead_bytes: 64 * MIB, at_once: usize::MAX, slow: &[] };

/// Pieces of ten rows.
fn make(
    component: Component,
    job: Job,
    batches: Vec<Result<RecordBatch, Failure>>,
    setting: Setting,
) -> (Result<Formatted, Failure>, Objects) {
    let objects = Arc::new(Mutex::new(Objects::new()));
    let take = |piece, events| take(piece, events, objects.clone(), setting.slow.contains(&piece));
    let crew = Crew::new(setting.instances, setting.ahead_bytes);
    let pieces = Pieces { rows: NonZeroU64::new(10).unwrap(), at_once: setting.at_once };
    let made = in_pieces(component, job, stream::iter(batches), (&pieces, &crew), take);
    let made = runtime().block_on(made);
    let objects = std::mem::take(&mut *objects.lock().unwrap());
    (made.map_err(Failure::from), objects)
}

async fn take(
    piece: u32,
    mut events: mpsc::Receiver<OutputEvent>,
    objects: Arc<Mutex<Objects>>,
    slow: bool,
) -> Result<(), Failure> {
    if slow {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    while let Some(event) = events.recv().await {
        let mut objects = objects.lock().unwrap();
        match event {
            OutputEvent::Create { object, name, .. } => {
                assert!(objects.insert((piece, object), (name.to_string(), Vec::new(), None)).is_none());
            }
            OutputEvent::Bytes { object, bytes } => objects.get_mut(&(piece, object)).unwrap().1.extend(bytes),
            OutputEvent::Finish { object, rows } => objects.get_mut(&(piece, object)).unwrap().2 = Some(rows),
        }
    }
    Ok(())
}

/// Numbers from 0 on, in batches of these sizes.
fn batches(sizes: &[usize]) -> Vec<Result<RecordBatch, Failure>> {
    let mut begin = 0;
    let next = |size: &usize| {
        let batch = numbers(begin..begin + *size as i64);
        begin += *size as i64;
        Ok(batch)
    };
    sizes.iter().map(next).collect()
}

fn lines(rows: Range<u64>) -> Vec<u8> {
    rows.flat_map(|n| format!("{{\"n\":{n}}}\n").into_bytes()).collect()
}

fn whole(pieces: u32, last: u64) -> Objects {
    let piece = |piece: u32| {
        let (begin, rows) = (u64::from(piece) * 10, if piece + 1 == pieces { last } else { 10 });
        let object = (format!("daily-{piece:05}.jsonl"), lines(begin..begin + rows), Some(rows));
        ((piece, 0), object)
    };
    (0..pieces).map(piece).collect()
}

#[test]
fn neither_instances_nor_time_change_a_byte() {
    let settings = [
        Setting { instances: 1, ..ALL_AT_ONCE },
        Setting { instances: 2, ..ALL_AT_ONCE },
        Setting { instances: 5, slow: &[0, 3], ..ALL_AT_ONCE },
        Setting { instances: 5, at_once: 2, slow: &[1, 2], ..ALL_AT_ONCE },
        Setting { ahead_bytes: 0, ..ALL_AT_ONCE },
        ALL_AT_ONCE,
    ];
    for component in sloppy().both() {
        for setting in settings {
            // Ends of batches and of pieces are the same, and are not.
            let (made, objects) =
                make(component.clone(), job_of(""), batches(&[3, 7, 10, 1, 0, 12, 17, 0, 4, 1]), setting);
            let made = made.unwrap();
            assert_eq!((made.rows, made.objects), (55, 6));
            assert_eq!(made.bytes_out, lines(0..55).len() as u64);
            assert!(objects == whole(6, 5), "{objects:?}");
        }
    }
}

#[test]
fn no_rows_are_one_piece() {
    for component in sloppy().both() {
        for nothing in [&[][..], &[0, 0]] {
            let (made, objects) = make(component.clone(), job_of(""), batches(nothing), ALL_AT_ONCE);
            assert_eq!(made.unwrap().rows, 0);
            assert!(objects == whole(1, 0), "{objects:?}");
        }
        let (made, objects) = make(component, job_of(""), batches(&[10, 0]), ALL_AT_ONCE);
        assert_eq!(made.unwrap().rows, 10);
        assert!(objects == whole(1, 10), "rows that fill a piece begin no other: {objects:?}");
    }
}

/// Piece 5 fails long before piece 3 does, and it is piece 3 that is told.
#[test]
fn the_first_failure_in_the_order_of_the_rows_is_told() {
    let sizes = [10, 10, 10, 9, 1, 10, 1, 9];
    for component in sloppy().both() {
        let alone = Setting { instances: 1, ..ALL_AT_ONCE };
        for setting in [alone, Setting { slow: &[1, 3], ..ALL_AT_ONCE }] {
            let (made, objects) = make(component.clone(), job_of("one-row"), batches(&sizes), setting);
            let failure = made.unwrap_err();
            let text = "one row is not enough (at batch 2 of piece 3)";
            assert!(failure.message.contains(text), "{failure:?}");
            assert_eq!((failure.layer, failure.retry), (Layer::Plugin, Retry::Never));
            assert!(whole(6, 10).iter().take(3).all(|(number, object)| objects[number] == *object), "{objects:?}");
        }
    }
}

/// Batches, and then none for a long time; tells when it is dropped.
struct Waiting {
    batches: std::vec::IntoIter<Result<RecordBatch, Failure>>,
    _alive: oneshot::Sender<()>,
}

impl Stream for Waiting {
    type Item = Result<RecordBatch, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.next().map_or(Poll::Pending, |batch| Poll::Ready(Some(batch)))
    }
}

/// The bucket takes its time with the pieces before it: the query, and the memory that it reads
/// ahead into, are others' by then.
#[test]
fn nothing_is_read_any_more_when_a_piece_has_failed() {
    for component in sloppy().both() {
        let (alive, gone) = oneshot::channel();
        let batches = Waiting { batches: batches(&[10, 1]).into_iter(), _alive: alive };
        let gone = Mutex::new(Some(gone));
        let take = |piece, mut events: mpsc::Receiver<OutputEvent>| {
            let gone = if piece == 0 { gone.lock().unwrap().take() } else { None };
            async move {
                if let Some(gone) = gone {
                    assert!(gone.await.is_err());
                }
                while events.recv().await.is_some() {}
                Ok(())
            }
        };
        let crew = Crew::new(4, MIB);
        let pieces = Pieces { rows: NonZeroU64::new(10).unwrap(), at_once: 4 };
        let made = in_pieces(component, job_of("one-row"), batches, (&pieces, &crew), take);
        let made = async { tokio::time::timeout(Duration::from_secs(60), made).await };
        let made = runtime().block_on(made).expect("the rows are let go");
        assert!(Failure::from(made.unwrap_err()).message.contains("one row is not enough"));
    }
}

#[test]
fn a_dataset_that_fails_is_told_as_it_is() {
    for component in sloppy().both() {
        // Within a piece, and where the next one would begin.
        for sizes in [&[10, 10, 3][..], &[10, 10]] {
            let broken = Failure::new(Layer::Dataset, Retry::Later, "the lake is dry", "wait for rain");
            let all = [batches(sizes), vec![Err(broken.clone())]].concat();
            let (made, _) = make(component.clone(), job_of(""), all, Setting { slow: &[0], ..ALL_AT_ONCE });
            let failure = made.unwrap_err();
            assert_eq!((failure.layer, failure.message), (Layer::Dataset, broken.message));
        }
    }
}

/// Others that are at work are not waited for.
#[test]
fn output_that_cannot_be_stored_ends_all_at_once() {
    let full = || Failure::new(Layer::Network, Retry::Later, "the bucket is away", "");
    for component in hostile().both() {
        let job = job(r#"{"behaviour":"endless_loop"}"#, numbers(0..1).schema());
        let take = |piece, mut events: mpsc::Receiver<OutputEvent>| async move {
            match piece {
                1 => Err(full()),
                _ => {
                    while events.recv().await.is_some() {}
                    Ok(())
                }
            }
        };
        let crew = Crew::new(4, MIB);
        let pieces = Pieces { rows: NonZeroU64::new(10).unwrap(), at_once: 4 };
        let made = in_pieces(component, job, stream::iter(batches(&[30])), (&pieces, &crew), take);
        assert_eq!(Failure::from(runtime().block_on(made).unwrap_err()), full());
    }
}

#[test]
fn instances_end_when_the_delivery_is_given_up() {
    for component in hostile().both() {
        let job = job(r#"{"behaviour":"endless_loop"}"#, numbers(0..1).schema());
        let (begun, mut receivers) = mpsc::unbounded_channel();
        let take = |_, events: mpsc::Receiver<OutputEvent>| {
            begun.send(events).unwrap();
            std::future::pending()
        };
        runtime().block_on(async {
            let crew = Crew::new(3, MIB);
            let pieces = Pieces { rows: NonZeroU64::new(10).unwrap(), at_once: 3 };
            let made = in_pieces(component, job, stream::iter(batches(&[40])), (&pieces, &crew), take);
            let three = async { [receivers.recv().await, receivers.recv().await, receivers.recv().await] };
            let three = tokio::select! {
                made = made => panic!("{made:?}"),
                three = three => three,
            };
            for events in three {
                assert_eq!(events.unwrap().recv().await, None, "the instance has ended");
            }
        });
    }
}

#[test]
fn a_plugin_that_names_objects_as_it_likes_is_refused_in_the_first_piece() {
    for component in hostile().both() {
        let job = job(r#"{"behaviour":"none"}"#, numbers(0..1).schema());
        let (made, _) = make(component, job, batches(&[5]), ALL_AT_ONCE);
        let failure = made.unwrap_err();
        let text = "hostile: named an object \"0\", which does not begin with its `object-stem` daily-00000; \
                    without that the share cannot have `piece_rows` (at batch 1 of piece 0)";
        assert!(failure.message.starts_with(text), "{failure:?}");
    }
}

#[test]
fn limits_of_a_delivery_are_those_of_all_its_pieces() {
    for component in sloppy().both() {
        let refused = |limits: fn(&mut Limits)| {
            let mut job = job_of("");
            limits(&mut job.limits);
            make(component.clone(), job, batches(&[60]), ALL_AT_ONCE).0
        };
        let all = lines(0..60).len() as u64;
        assert!(refused(|limits| limits.objects = 6).is_ok());
        let failure = refused(|limits| limits.objects = 5).unwrap_err();
        assert!(failure.message.contains("began more than 5 objects"), "{failure:?}");
        assert_eq!(all, 530);
        assert!(refused(|limits| limits.output_bytes = 530).is_ok());
        let failure = refused(|limits| limits.output_bytes = 529).unwrap_err();
        assert!(failure.message.contains("wrote more than 529 B of output"), "{failure:?}");
    }
}

#[test]
fn the_wall_time_is_that_of_all_pieces() {
    for component in sloppy().both() {
        let mut job = job_of("");
        job.limits.wall_time = Duration::from_millis(700);
        let slow = Setting { instances: 1, slow: &[0, 1, 2, 3, 4, 5], ..ALL_AT_ONCE };
        let failure = make(component, job, batches(&[60]), slow).0.unwrap_err();
        assert!(failure.message.contains("sloppy: was not done after 700ms, waiting included"), "{failure:?}");
    }
}
