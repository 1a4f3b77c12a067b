//! The bytes of one part: in memory, or in a file without a name. They can be
//! sent as often as it takes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::{JoinHandle, spawn_blocking};

use super::parts::Checksum;
use crate::domain::{Failure, Layer, Retry};

/// What is read of a file at once, and so what of it is in memory.
const PIECE_BYTES: u64 = 256 << 10;

#[derive(Clone)]
pub(super) struct Contents {
    /// Of all bytes.
    pub(super) checksum: Checksum,
    kept: Kept,
}

#[derive(Clone)]
enum Kept {
    Memory(Bytes),
    File(Spilled),
}

/// A file that nobody writes to any more. Its room is free again when the last clone is gone.
#[derive(Clone)]
pub(super) struct Spilled {
    pub(super) file: Arc<File>,
    pub(super) bytes: u64,
    /// In hex, if requests are signed by what they carry.
    pub(super) sha256: Option<String>,
}

impl Contents {
    pub(super) fn in_memory(bytes: Bytes) -> Self {
        Self { checksum: Checksum::of(&bytes), kept: Kept::Memory(bytes) }
    }

    pub(super) fn in_file(checksum: Checksum, spilled: Spilled) -> Self {
        Self { checksum, kept: Kept::File(spilled) }
    }

    pub(super) fn len(&self) -> u64 {
        match &self.kept {
            Kept::Memory(bytes) => bytes.len() as u64,
            Kept::File(spilled) => spilled.bytes,
        }
    }

    /// What to sign a request by that the SDK does not hash by itself, as it does what is in memory.
    pub(super) fn sha256(&self) -> Option<&str> {
        match &self.kept {
            Kept::Memory(_) => None,
            Kept::File(spilled) => spilled.sha256.as_deref(),
        }
    }

    /// The body of a request, of known length, which the SDK can begin again.
    pub(super) fn body(&self) -> ByteStream {
        match &self.kept {
            Kept::Memory(bytes) => ByteStream::from(bytes.clone()),
            Kept::File(spilled) => {
                let spilled = spilled.clone();
                ByteStream::new(SdkBody::retryable(move || {
                    SdkBody::from_body_1_x(FileBody { spilled: spilled.clone(), at: 0, reading: None })
                }))
            }
        }
    }

    /// What comes at `at`, nothing at the end. Blocks.
    pub(super) fn piece(&self, at: u64) -> io::Result<Bytes> {
        match &self.kept {
            Kept::Memory(bytes) => Ok(bytes.slice(usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len())..)),
            Kept::File(spilled) => spilled.piece(at),
        }
    }
}

impl Spilled {
    fn piece(&self, at: u64) -> io::Result<Bytes> {
        let count = self.bytes.saturating_sub(at).min(PIECE_BYTES);
        let mut piece = vec![0; usize::try_from(count).unwrap_or_default()];
        self.file.read_exact_at(&mut piece, at)?;
        Ok(piece.into())
    }
}

/// A file as a body. The SDK's own reads a file by its name, and these have none.
struct FileBody {
    spilled: Spilled,
    at: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Body for FileBody {
    type Data = Bytes;
    /// Found again among the causes of the SDK's error, so that the disk is not taken for the network.
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let Self { spilled, at, reading } = self.get_mut();
        let task = reading.get_or_insert_with(|| {
            let (spilled, at) = (spilled.clone(), *at);
            spawn_blocking(move || spilled.piece(at))
        });
        let read = ready!(Pin::new(task).poll(context));
        *reading = None;
        Poll::Ready(Some(match read.map_err(io::Error::other).flatten() {
            Ok(piece) => {
                *at += piece.len() as u64;
                Ok(Frame::data(piece))
            }
            Err(error) => Err(unreadable(&error)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.spilled.bytes
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.spilled.bytes - self.at)
    }
}

fn unreadable(error: &io::Error) -> Failure {
    let message = format!("a part that waited in a temporary file could not be read back: {error}");
    let remedy = "look after the disk of daemon.cache_dir; nothing is lost, the delivery can be made again";
    Failure::new(Layer::Local, Retry::Later, message, remedy)
}
