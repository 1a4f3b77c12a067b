//! Machine code of a component, in memory that nobody can change any more.
//!
//! What runs it maps that memory: the daemon and every process of the plugin the same
//! pages, of which each reads in only what it comes by. The file in the cache itself is not
//! mapped, because a disk that fails then ends whoever reads what was mapped of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use wasmtime::Engine;
use wasmtime::component::Component;

/// How much is read at once.
const PIECE_BYTES: usize = 256 << 10;

pub struct Compiled(File);

impl Compiled {
    pub fn of(code: &[u8]) -> io::Result<Self> {
        Self::read(code, |_| {})
    }

    /// All that there is to read, each piece of which `see` sees.
    pub fn read(mut from: impl Read, mut see: impl FnMut(&[u8])) -> io::Result<Self> {
        let memory = memfd_create("consign-plugin", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let (mut memory, mut piece) = (File::from(memory), vec![0; PIECE_BYTES]);
        loop {
            let bytes = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(bytes) => &piece[..bytes],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            see(bytes);
            memory.write_all(bytes)?;
        }
        fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self(memory))
    }

    /// # Safety
    /// It must be what an engine has compiled.
    pub unsafe fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the caller's word; and it is sealed.
        unsafe { Component::deserialize_file(engine, format!("/proc/self/fd/{}", self.0.as_raw_fd())) }
    }

    /// For who maps it in another process.
    pub fn memory(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}
