//! A core module as a component of the contract, for compilers that know no
//! components.

use std::path::{Path, PathBuf};

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

const WORLD: &str = "format-plugin";

/// Why a module cannot become a component.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    #[error("cannot read the contract in {}; `consign plugin new` writes it there", wit.display())]
    Contract { wit: PathBuf, source: Cause },
    #[error("the module does not fit the contract of {}", wit.display())]
    Module { wit: PathBuf, source: Cause },
    #[error("the module is cut off or no module at all")]
    CutOff,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Wraps `module`, which imports and exports what the bindings of the contract in
/// the folder `wit` do. What it imports of WASI's first preview besides, as C's
/// `fprintf` does, becomes what consign offers of the second.
pub fn componentize(module: &[u8], wit: &Path) -> Result<Vec<u8>, ComponentError> {
    let contract = |source: Cause| ComponentError::Contract { wit: wit.into(), source };
    let misfit = |source: Cause| ComponentError::Module { wit: wit.into(), source };
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).map_err(|error| contract(error.into()))?;
    let world = resolve.select_world(&[package], Some(WORLD)).map_err(|error| contract(error.into()))?;
    let mut module = without_debug_info(module).ok_or(ComponentError::CutOff)?;
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .map_err(|error| misfit(error.into()))?;
    let wasi = (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.adapter(wasi.0, wasi.1))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| misfit(error.into()))
}

/// The module without what only a debugger reads, which is most of it. Names stay,
/// so that a trap's frames can be read.
fn without_debug_info(module: &[u8]) -> Option<Vec<u8>> {
    const CUSTOM: u8 = 0;
    let (header, mut rest) = module.split_at_checked(8)?;
    let mut kept = header.to_vec();
    while let Some((kind, after)) = rest.split_first() {
        let (size, after) = leb128(after)?;
        let (content, next) = after.split_at_checked(size)?;
        let is_debug_info = *kind == CUSTOM && leb128(content)?.1.starts_with(b".debug_");
        if !is_debug_info {
            kept.extend_from_slice(&rest[..rest.len() - next.len()]);
        }
        rest = next;
    }
    Some(kept)
}

/// An unsigned number of at most 32 bits, and what follows it.
fn leb128(mut bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        bytes = rest;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number, bytes));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_info_goes_and_names_stay() {
        let header = b"\0asm\x01\0\0\0".as_slice();
        let custom = |name: &str| [&[0, name.len() as u8 + 3, name.len() as u8], name.as_bytes(), &[1, 2]].concat();
        let module = [header, &custom(".debug_info"), &custom("name"), &custom(".debug_str")].concat();
        assert_eq!(without_debug_info(&module).unwrap(), [header, &custom("name")].concat());
        assert_eq!(without_debug_info(&module[..module.len() - 1]), None);
    }

    #[test]
    fn a_module_that_is_no_plugin_is_refused_with_what_is_missing() {
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit/v1");
        let refused = componentize(b"\0asm\x01\0\0\0", &wit).unwrap_err();
        let told = crate::domain::Failure::chain(&refused);
        assert!(told.contains("consign:format/formatter@1.0.0"), "{told}");
        let elsewhere = componentize(b"\0asm\x01\0\0\0", Path::new("nowhere")).unwrap_err();
        assert!(matches!(elsewhere, ComponentError::Contract { .. }));
    }
}
