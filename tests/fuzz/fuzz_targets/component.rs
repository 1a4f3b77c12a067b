//! Loading of components: whatever a file is, it is loaded and says who it is, or it is
//! refused in a message that can be read.
#![no_main]

#[path = "../guest.rs"]
mod guest;

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use consign::domain::Failure;
use libfuzzer_sys::fuzz_target;

/// Of a message with all its causes.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

#[derive(Arbitrary, Debug)]
enum Given<'a> {
    /// Any file.
    Bytes(&'a [u8]),
    /// A component that was good once.
    Edited(Vec<Edit<'a>>),
    /// A valid component, of another world most likely.
    Made(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
struct Edit<'a> {
    at: u32,
    instead_of: u8,
    bytes: &'a [u8],
}

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(guest::echo);

fuzz_target!(|given: Given<'_>| {
    let bytes = match given {
        Given::Bytes(bytes) => bytes.to_vec(),
        Given::Edited(edits) => edited(GOOD.clone(), &edits),
        Given::Made(from) => match made(from) {
            Some(bytes) => bytes,
            None => return,
        },
    };
    match guest::load(&bytes) {
        Ok(component) => {
            let said = component.description();
            assert!(!said.name.is_empty() && !said.extension.contains('/'), "{said:?}");
            assert_eq!(component.digest().len(), 64);
        }
        Err(error) => {
            let message = Failure::chain(&error);
            assert!(!message.is_empty() && message.len() <= MESSAGE_BYTES_MAX, "{} bytes", message.len());
        }
    }
});

fn edited(mut bytes: Vec<u8>, edits: &[Edit<'_>]) -> Vec<u8> {
    for edit in edits {
        let at = edit.at as usize % (bytes.len() + 1);
        let end = (at + usize::from(edit.instead_of)).min(bytes.len());
        bytes.splice(at..end, edit.bytes.iter().copied());
    }
    bytes
}

fn made(from: &[u8]) -> Option<Vec<u8>> {
    let mut from = Unstructured::new(from);
    wasm_smith::Component::new(wasm_smith::Config::default(), &mut from).ok().map(|component| component.to_bytes())
}
