use std::io;

use crate::Error;
use crate::run::RunFacts;

/// Bytes handed to the host at once. Within the contract's advice of 64 KiB to
/// 1 MiB, and small enough to stay in the processor's second-level cache.
pub(crate) const FLUSH_BYTES: usize = 256 * 1024;

/// The most that one call may carry is 16 MiB.
const WRITE_BYTES_MAX: usize = 1024 * 1024;

/// Where a formatter's objects go: the host, or memory in a test.
pub trait Sink {
    /// Begins the object `name`.
    fn create(&self, name: &str, media_type: &str) -> Box<dyn ObjectSink>;
}

/// One object of a [`Sink`].
pub trait ObjectSink {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]);
    /// The object is complete and holds `rows` rows.
    fn finish(self: Box<Self>, rows: u64);
}

/// The delivery's output, lent for one call.
pub struct Output<'a> {
    sink: &'a dyn Sink,
    naming: &'a mut Naming,
}

/// How the objects of one delivery are named, and how many there are so far.
#[derive(Debug, Clone)]
pub struct Naming {
    stem: String,
    extension: &'static str,
    media_type: &'static str,
    max_object_bytes: Option<u64>,
    objects: u64,
}

/// One object that is being written. It must be finished: an object that is
/// dropped fails the delivery.
#[must_use = "an object that is not finished fails the delivery"]
pub struct Object {
    sink: Box<dyn ObjectSink>,
    bytes: u64,
}

impl Naming {
    /// The naming that the run asks for. `extension` is without the dot.
    pub fn new(run: &RunFacts, extension: &'static str, media_type: &'static str) -> Result<Self, Error> {
        Ok(Naming {
            stem: run.object_stem(),
            extension,
            media_type,
            max_object_bytes: run.max_object_bytes()?,
            objects: 0,
        })
    }

    fn next(&mut self, extension: &str) -> Result<String, Error> {
        let Naming { stem, objects: number, .. } = self;
        let name = match (self.max_object_bytes, *number) {
            (Some(_), number) => format!("{stem}-{number:05}.{extension}"),
            (None, 0) => format!("{stem}.{extension}"),
            (None, _) => {
                return Err(Error::Other(
                    "the formatter began a second object though the share does not split: \
                     it must name such objects itself (`Output::create`)"
                        .into(),
                ));
            }
        };
        *number += 1;
        Ok(name)
    }
}

impl<'a> Output<'a> {
    /// The output that writes to `sink` with the names of `naming`.
    pub fn new(sink: &'a dyn Sink, naming: &'a mut Naming) -> Self {
        Output { sink, naming }
    }

    /// Begins the next object under its usual name: `STEM.EXT`, or
    /// `STEM-00000.EXT`, `STEM-00001.EXT`, … when the share splits. Fails when
    /// it does not split and there already is one.
    pub fn next_object(&mut self) -> Result<Object, Error> {
        self.next_object_as(self.naming.extension, self.naming.media_type)
    }

    /// The same for a format whose options decide the extension (without the
    /// dot) and the media type.
    pub fn next_object_as(&mut self, extension: &str, media_type: &str) -> Result<Object, Error> {
        let name = self.naming.next(extension)?;
        Ok(self.create(&name, media_type))
    }

    /// Begins an object under a name of the formatter's own: 1 to 200 bytes, no
    /// `/`, `\` or control character, not `.` or `..`, not starting with
    /// `_manifest`, not used before. The host refuses any other.
    pub fn create(&mut self, name: &str, media_type: &str) -> Object {
        Object { sink: self.sink.create(name, media_type), bytes: 0 }
    }

    /// Bytes that no object should exceed, none when the share does not split.
    pub fn max_object_bytes(&self) -> Option<u64> {
        self.naming.max_object_bytes
    }

    /// What objects are to be named, without extension.
    pub fn object_stem(&self) -> &str {
        &self.naming.stem
    }
}

impl Object {
    /// Appends bytes, of any number. Best called with 64 KiB to 1 MiB.
    pub fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(WRITE_BYTES_MAX) {
            self.sink.write(part);
        }
        self.bytes += bytes.len() as u64;
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The object is complete and holds `rows` rows of the batches. Over all
    /// objects these must be the rows of all batches, or the delivery fails.
    pub fn finish(self, rows: u64) {
        self.sink.finish(rows);
    }
}

impl io::Write for Object {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Object::write(self, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
