//! A ZIP archive (APPNOTE 6.3) that is written from front to back.
//!
//! Sizes and checksums stand behind each file, as what is written cannot be gone
//! back to. Everything is 32 bits wide: the 64-bit form is what some readers of
//! workbooks do not know.

use std::io::{self, Write as _};

use consign_sdk::Error;
use flate2::Crc;
use flate2::write::DeflateEncoder;

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;

/// Deflate came with version 2.0.
const VERSION: u16 = 20;
/// Sizes stand behind the data; names are UTF-8.
const FLAGS: u16 = 1 << 3 | 1 << 11;
const DEFLATED: u16 = 8;
/// 1980-01-01, where time begins here.
const TIME_AND_DATE: [u16; 2] = [0, 1 << 5 | 1];

/// An archive.
pub(crate) struct Zip {
    level: flate2::Compression,
    /// The present file. Its encoder writes to what is not taken away yet.
    encoder: DeflateEncoder<Vec<u8>>,
    crc: Crc,
    /// Written before the present file.
    before: u64,
    name: Option<String>,
    files: Vec<File>,
}

/// A file that is complete.
struct File {
    name: String,
    offset: u32,
    sums: Sums,
}

struct Sums {
    crc: u32,
    compressed: u32,
    size: u32,
}

impl Zip {
    /// An empty one; `level` is from 0 to 9.
    pub fn new(level: u32) -> Self {
        let level = flate2::Compression::new(level);
        Zip {
            level,
            encoder: DeflateEncoder::new(Vec::new(), level),
            crc: Crc::new(),
            before: 0,
            name: None,
            files: Vec::new(),
        }
    }

    /// Ends the present file and begins another.
    pub fn begin(&mut self, name: &str) -> Result<(), Error> {
        self.end()?;
        let mut header = Header::new(LOCAL);
        header.u16s(&[VERSION, FLAGS, DEFLATED]).u16s(&TIME_AND_DATE).u32s(&[0; 3]).u16s(&[name.len() as u16, 0]);
        header.bytes(name.as_bytes());
        self.append(&header.0);
        self.name = Some(name.to_owned());
        Ok(())
    }

    /// Appends to the present file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.crc.update(bytes);
        self.encoder.write_all(bytes).map_err(failed)
    }

    /// Whatever was written has come through.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.encoder.flush().map_err(failed)
    }

    /// What is to be taken away.
    pub fn written(&mut self) -> &mut Vec<u8> {
        self.encoder.get_mut()
    }

    /// The rest of the archive.
    pub fn finish(mut self) -> Result<Vec<u8>, Error> {
        self.end()?;
        let begin = narrow(self.before)?;
        let mut directory = Header(Vec::new());
        for File { name, offset, sums } in &self.files {
            directory.u32s(&[CENTRAL]).u16s(&[VERSION, VERSION, FLAGS, DEFLATED]).u16s(&TIME_AND_DATE);
            directory.u32s(&[sums.crc, sums.compressed, sums.size]).u16s(&[name.len() as u16, 0, 0, 0, 0]);
            directory.u32s(&[0, *offset]).bytes(name.as_bytes());
        }
        let (count, bytes) = (self.files.len() as u16, narrow(directory.0.len() as u64)?);
        directory.u32s(&[END]).u16s(&[0, 0, count, count]).u32s(&[bytes, begin]).u16s(&[0]);
        self.append(&directory.0);
        Ok(std::mem::take(self.written()))
    }

    fn end(&mut self) -> Result<(), Error> {
        let Some(name) = self.name.take() else { return Ok(()) };
        self.encoder.try_finish().map_err(failed)?;
        let (compressed, size) = (self.encoder.total_out(), self.encoder.total_in());
        let sums = Sums { crc: self.crc.sum(), compressed: narrow(compressed)?, size: narrow(size)? };
        let offset = narrow(self.before - 30 - name.len() as u64)?;
        let rest = std::mem::take(self.encoder.get_mut());
        self.encoder = DeflateEncoder::new(rest, self.level);
        self.crc.reset();
        self.before += compressed;
        let mut descriptor = Header::new(DESCRIPTOR);
        descriptor.u32s(&[sums.crc, sums.compressed, sums.size]);
        self.append(&descriptor.0);
        self.files.push(File { name, offset, sums });
        Ok(())
    }

    /// Appends what is not of a file.
    fn append(&mut self, bytes: &[u8]) {
        self.before += bytes.len() as u64;
        self.written().extend_from_slice(bytes);
    }
}

/// Numbers, the least significant byte first.
struct Header(Vec<u8>);

impl Header {
    fn new(signature: u32) -> Self {
        Header(signature.to_le_bytes().to_vec())
    }

    fn u16s(&mut self, numbers: &[u16]) -> &mut Self {
        self.0.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        self
    }

    fn u32s(&mut self, numbers: &[u32]) -> &mut Self {
        self.0.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

fn narrow(bytes: u64) -> Result<u32, Error> {
    let quota = || Error::Quota("a workbook holds up to 4 GiB: set max_object_size on the share".into());
    u32::try_from(bytes).map_err(|_| quota())
}

fn failed(error: io::Error) -> Error {
    Error::Other(format!("the workbook could not be compressed: {error}"))
}
