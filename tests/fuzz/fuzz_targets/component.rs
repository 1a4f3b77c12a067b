//! Loading of components: whatever a file is, it is loaded and says who it is, or it is
//! refused in a message that can be read.
#![no_main]

#[path = "../guest.rs"]
mod guest;

use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use consign::domain::Failure;
use libfuzzer_sys::{Corpus, fuzz_target};

/// Of a message with all its causes.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(guest::echo);

fuzz_target!(|bytes: &[u8]| -> Corpus {
    match file(&mut Unstructured::new(bytes)) {
        Ok(file) => load(&file),
        Err(_) => return Corpus::Reject,
    }
    Corpus::Keep
});

/// A good component with a few edits, or any bytes.
fn file(from: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    match from.int_in_range(0..=1)? {
        0 => {
            let mut file = GOOD.clone();
            while !from.is_empty() {
                let at = from.int_in_range(0..=file.len())?;
                let end = (at + usize::from(from.arbitrary::<u8>()?)).min(file.len());
                file.splice(at..end, from.arbitrary::<&[u8]>()?.iter().copied());
            }
            Ok(file)
        }
        _ => Ok(from.bytes(from.len())?.to_vec()),
    }
}

fn load(file: &[u8]) {
    match guest::load(file) {
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
}
