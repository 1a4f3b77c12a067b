//! Compression of a whole object, on a thread of its own.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::thread;

use bytes::Bytes;
use flate2::GzBuilder;
use tokio::sync::{Semaphore, mpsc};

use super::closed;
use super::object::Step;
use crate::config::Compression;
use crate::domain::{Failure, Invalid, Layer, LeafName, Retry};
use crate::limits::{COMPRESSED_OBJECTS_OPEN, ENCODER_BYTES};

/// Compressed bytes are handed on in pieces of about this size.
const PIECE_BYTES: usize = 256 << 10;

/// Pieces of a delivery whose objects are compressed at the same time.
const PIECES_AT_ONCE: usize = 16;

/// What an encoder of zstd holds, in MiB by level from 1 on, rounded up:
/// `ZSTD_sizeof_CCtx` of zstd 1.5.7 after a stream of unknown length.
const ZSTD_MIB: [usize; 19] = [2, 2, 4, 5, 6, 6, 8, 8, 15, 25, 25, 45, 37, 53, 69, 37, 57, 58, 90];
/// gzip's is well below that, whatever the level.
const GZIP_MIB: usize = 1;

/// Compresses the objects of one delivery.
pub(super) struct Compressor {
    compression: Compression,
    /// Of one piece, however many pieces come at the same time: what a plugin may do
    /// must not follow from the machine.
    open_max: usize,
    pieces_at_once: usize,
    /// For threads. Also those of finished objects, whose uploads may be slower.
    places: Arc<Semaphore>,
}

impl Compressor {
    pub(super) fn new(compression: Compression, in_pieces: bool) -> Self {
        let all = open_max(compression);
        let pieces_at_once = if in_pieces && compression != Compression::None { all.min(PIECES_AT_ONCE) } else { 1 };
        let places = Arc::new(Semaphore::new(all));
        Self { compression, open_max: all / pieces_at_once, pieces_at_once, places }
    }

    pub(super) fn pieces_at_once(&self) -> usize {
        if self.compression == Compression::None { usize::MAX } else { self.pieces_at_once }
    }

    /// The name and media type of an object after compression.
    pub(super) fn rename(&self, name: &LeafName, media_type: String) -> Result<(LeafName, String), Invalid> {
        let (suffix, media_type) = match self.compression {
            Compression::None => return Ok((name.clone(), media_type)),
            // RFC 6713 and RFC 8878.
            Compression::Gzip { .. } => (".gz", "application/gzip"),
            Compression::Zstd { .. } => (".zst", "application/zstd"),
        };
        Ok((LeafName::parse(&format!("{name}{suffix}"))?, media_type.to_owned()))
    }

    /// Puts a compressing thread in front of `to`, when `open` other objects of its piece
    /// are unfinished. The same bytes in give the same bytes out: no time and no name
    /// in gzip's header. A thread that cannot do its work says so in `failed`
    /// before it hangs up.
    pub(super) async fn in_front_of(
        &self,
        to: mpsc::Sender<Step>,
        open: usize,
        failed: Arc<OnceLock<Failure>>,
    ) -> Result<mpsc::Sender<Step>, Failure> {
        let compression = self.compression;
        if compression == Compression::None {
            return Ok(to);
        }
        if open >= self.open_max {
            return Err(self.too_many());
        }
        // Fewer are open than there are places, so what holds them all is about to end.
        let place = self.places.clone().acquire_owned().await.map_err(closed)?;
        let (sender, receiver) = mpsc::channel(1);
        let work = move || {
            let line = to.clone();
            match compress(receiver, to, compression) {
                // The upload has failed and says so itself.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) => {
                    let message = format!("compression failed: {error}");
                    let remedy = "if it goes on, report it with the object's name; without the share's `compression` it can be delivered";
                    failed.get_or_init(|| Failure::new(Layer::Local, Retry::Later, message, remedy));
                }
                Ok(()) => {}
            }
            drop((line, place));
        };
        thread::Builder::new().name("consign-compress".into()).spawn(work).map_err(|error| {
            let remedy = "allow consign more threads (TasksMax, ulimit -u), or have the plugin finish objects before it creates others";
            Failure::new(Layer::Local, Retry::Later, format!("no thread for compression: {error}"), remedy)
        })?;
        Ok(sender)
    }

    fn too_many(&self) -> Failure {
        let of_piece = if self.pieces_at_once > 1 { " of one piece" } else { "" };
        let message = format!(
            "more than {} objects{of_piece} were open at the same time, which is the limit for {}",
            self.open_max,
            match self.compression {
                Compression::None => "none".to_owned(),
                Compression::Gzip { level } => format!("gzip at level {level}"),
                Compression::Zstd { level } => format!("zstd at level {level}"),
            }
        );
        let remedy = "have the plugin finish objects before it creates others, lower the level of the share's `compression`, or \
                      remove it";
        Failure::new(Layer::Plugin, Retry::Never, message, remedy)
    }
}

fn open_max(compression: Compression) -> usize {
    let mib = match compression {
        Compression::None => return Semaphore::MAX_PERMITS,
        Compression::Gzip { .. } => GZIP_MIB,
        Compression::Zstd { level } => {
            let level = usize::try_from(level).unwrap_or_default().clamp(1, ZSTD_MIB.len());
            ZSTD_MIB[level - 1]
        }
    };
    ((ENCODER_BYTES >> 20) / mib).clamp(1, COMPRESSED_OBJECTS_OPEN)
}

/// Broken off when nobody takes what it makes any more.
fn compress(mut from: mpsc::Receiver<Step>, to: mpsc::Sender<Step>, compression: Compression) -> io::Result<()> {
    let pieces = Pieces { to: to.clone(), piece: Vec::with_capacity(PIECE_BYTES) };
    let mut encoder = Encoder::new(compression, pieces)?;
    loop {
        match from.blocking_recv() {
            Some(Step::Bytes(bytes)) => encoder.write_all(&bytes)?,
            Some(Step::End { rows }) => {
                encoder.finish()?.flush()?;
                return to.blocking_send(Step::End { rows }).map_err(|_| io::ErrorKind::BrokenPipe.into());
            }
            None => return Ok(()),
        }
    }
}

enum Encoder {
    Plain(Pieces),
    Gzip(Box<flate2::write::GzEncoder<Pieces>>),
    Zstd(Box<zstd::Encoder<'static, Pieces>>),
}

impl Encoder {
    fn new(compression: Compression, to: Pieces) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Encoder::Plain(to),
            Compression::Gzip { level } => {
                let level = flate2::Compression::new(level);
                Encoder::Gzip(Box::new(GzBuilder::new().mtime(0).operating_system(255).write(to, level)))
            }
            Compression::Zstd { level } => {
                let mut encoder = zstd::Encoder::new(to, level)?;
                encoder.include_checksum(true)?;
                Encoder::Zstd(Box::new(encoder))
            }
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Encoder::Plain(to) => to.write_all(bytes),
            Encoder::Gzip(encoder) => encoder.write_all(bytes),
            Encoder::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Pieces> {
        match self {
            Encoder::Plain(to) => Ok(to),
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// Collects what an encoder writes and hands it on, waiting while the upload is slower.
struct Pieces {
    to: mpsc::Sender<Step>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.to.blocking_send(Step::Bytes(Bytes::from(piece))).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an encoder holds back to its end is handed on then, and nobody may be there to take it: the upload
    /// has failed, and what it says is why.
    #[tokio::test]
    async fn an_upload_that_has_failed_is_no_fault_of_the_compression() {
        let mixed = |i: u64| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (i << 40)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let noise: Vec<u8> = (0..1 << 17).flat_map(|i| (mixed(i) ^ (mixed(i) >> 29)).to_le_bytes()).collect();
        for compression in [Compression::Gzip { level: 6 }, Compression::Zstd { level: 3 }] {
            // Some of these come to a whole piece only when the encoder ends.
            for kib in (16..640).step_by(16) {
                let compressor = Compressor::new(compression, false);
                let (to, uploaded) = mpsc::channel(1);
                drop(uploaded);
                let failed = Arc::new(OnceLock::new());
                let steps = compressor.in_front_of(to, 0, failed.clone()).await.unwrap();
                let _ = steps.send(Step::Bytes(Bytes::copy_from_slice(&noise[..kib << 10]))).await;
                let _ = steps.send(Step::End { rows: 1 }).await;
                let all = u32::try_from(compressor.open_max).unwrap();
                let _ended = compressor.places.acquire_many(all).await.unwrap();
                assert_eq!(failed.get(), None, "{compression:?}, {kib} KiB");
            }
        }
    }

    /// `docs/limits.md` has these.
    #[test]
    fn the_larger_an_encoder_the_fewer_are_open() {
        assert_eq!(open_max(Compression::Gzip { level: 9 }), 64);
        let zstd = [1, 3, 6, 7, 9, 12, 15, 19].map(|level| open_max(Compression::Zstd { level }));
        assert_eq!(zstd, [64, 64, 64, 48, 25, 8, 5, 4]);
    }
}
