//! Compression of a whole object, on a thread of its own.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::thread;

use bytes::Bytes;
use flate2::GzBuilder;
use tokio::sync::mpsc;

use super::object::Step;
use crate::config::Compression;
use crate::domain::{Failure, Invalid, Layer, LeafName, Retry};

/// Compressed bytes are handed on in pieces of about this size.
const PIECE_BYTES: usize = 256 << 10;

/// The name and media type of an object after compression.
pub(super) fn rename(
    compression: Compression,
    name: &LeafName,
    media_type: String,
) -> Result<(LeafName, String), Invalid> {
    let (suffix, media_type) = match compression {
        Compression::None => return Ok((name.clone(), media_type)),
        // RFC 6713 and RFC 8878.
        Compression::Gzip { .. } => (".gz", "application/gzip"),
        Compression::Zstd { .. } => (".zst", "application/zstd"),
    };
    Ok((LeafName::parse(&format!("{name}{suffix}"))?, media_type.to_owned()))
}

/// Puts a compressing thread in front of `to`. The same bytes in give the same
/// bytes out: no time and no name in gzip's header. A thread that cannot do its
/// work says so in `failed` before it hangs up.
pub(super) fn in_front_of(
    to: mpsc::Sender<Step>,
    compression: Compression,
    failed: Arc<OnceLock<Failure>>,
) -> Result<mpsc::Sender<Step>, Failure> {
    if compression == Compression::None {
        return Ok(to);
    }
    let (sender, receiver) = mpsc::channel(1);
    let work = move || {
        let line = to.clone();
        if let Err(error) = compress(receiver, to, compression) {
            failed.get_or_init(|| Failure::new(Layer::Local, Retry::Never, format!("compression failed: {error}"), ""));
        }
        drop(line);
    };
    thread::Builder::new().name("consign-compress".into()).spawn(work).map_err(|error| {
        let remedy = "allow consign more threads (TasksMax, ulimit -u), or have the plugin finish objects before it creates others";
        Failure::new(Layer::Local, Retry::Later, format!("no thread for compression: {error}"), remedy)
    })?;
    Ok(sender)
}

fn compress(mut from: mpsc::Receiver<Step>, to: mpsc::Sender<Step>, compression: Compression) -> io::Result<()> {
    let pieces = Pieces { to: to.clone(), piece: Vec::with_capacity(PIECE_BYTES) };
    let mut encoder = Encoder::new(compression, pieces)?;
    loop {
        match from.blocking_recv() {
            Some(Step::Bytes(bytes)) => match encoder.write_all(&bytes) {
                // The upload has failed and says so itself.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                done => done?,
            },
            Some(Step::End { rows }) => {
                let mut pieces = encoder.finish()?;
                if pieces.flush().is_ok() {
                    let _ = to.blocking_send(Step::End { rows });
                }
                return Ok(());
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
