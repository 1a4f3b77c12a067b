//! What a component may ask for and what it must offer, before any of its code
//! runs; and what it may say of itself.

use wasmtime::Engine;
use wasmtime::component::Component;

use super::words::shown;
use super::{Description, OptionsSchema};
use crate::domain::PluginName;

/// Why a file is not a plugin of this contract.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("is not a WebAssembly component: {0}")]
    NotAComponent(&'static str),
    #[error("has {bytes} bytes; a plugin has at most {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("imports {refused}, which consign does not offer; it offers {offered}")]
    Import { refused: String, offered: String },
    #[error(
        "does not export {wanted}; it exports {exports} and imports {imports}. \
         Build it for the world {world} of wit/v1"
    )]
    Export { wanted: &'static str, world: &'static str, exports: String, imports: String },
}

/// Components of interpreted languages carry their interpreter (about 40 MB).
const BYTES_MAX: usize = 256 << 20;

const PACKAGE: &str = "consign:format/";
const EXPORT: &str = "consign:format/formatter@1";
const WORLD: &str = "consign:format/format-plugin@1.0.0";

/// Interfaces of the contract a plugin may import, in any 1.x, and what they give.
const CONTRACT: [(&str, &str); 4] = [
    ("types", "the contract's types"),
    ("data", "the rows, batch by batch"),
    ("output", "objects, under the customer's prefix"),
    ("run", "facts of the run, the log"),
];

/// Interfaces of WASI 0.2 that standard libraries refer to, and what a plugin gets
/// of them. All are empty or pinned; there are no sockets and no HTTP.
const WASI: [(&str, &str); 20] = [
    ("wasi:cli/environment", "no variables, no arguments"),
    ("wasi:cli/exit", "fails the delivery when it is called"),
    ("wasi:cli/stdin", "empty"),
    ("wasi:cli/stdout", "lines in the log"),
    ("wasi:cli/stderr", "lines in the log"),
    ("wasi:cli/terminal-input", "there is no terminal"),
    ("wasi:cli/terminal-output", "there is no terminal"),
    ("wasi:cli/terminal-stdin", "there is no terminal"),
    ("wasi:cli/terminal-stdout", "there is no terminal"),
    ("wasi:cli/terminal-stderr", "there is no terminal"),
    ("wasi:clocks/monotonic-clock", "moves by a microsecond each time it is read"),
    ("wasi:clocks/wall-clock", "stands at the slot's instant"),
    ("wasi:filesystem/preopens", "no folders"),
    ("wasi:filesystem/types", "no files"),
    ("wasi:io/error", "errors of the streams above"),
    ("wasi:io/poll", "waiting for the streams and the clock"),
    ("wasi:io/streams", "stdin, stdout and stderr as above"),
    ("wasi:random/insecure", "the same in each attempt: seeded from share, slot and customer"),
    ("wasi:random/insecure-seed", "the same in each attempt: seeded from share, slot and customer"),
    ("wasi:random/random", "the same in each attempt: seeded from share, slot and customer"),
];

/// What a plugin gets of an import; None for one that is refused.
pub fn gets(import: &str) -> Option<&'static str> {
    let (name, version) = import.split_once('@')?;
    let (offered, name, major) = match name.strip_prefix(PACKAGE) {
        Some(interface) => (&CONTRACT[..], interface, "1."),
        None => (&WASI[..], name, "0.2."),
    };
    let found = offered.iter().find(|(known, _)| *known == name && version.starts_with(major));
    found.map(|(_, gets)| *gets)
}

/// Looks at the first eight bytes, so that the usual mix-ups get a better
/// answer than the compiler's.
pub fn header(bytes: &[u8]) -> Result<(), InspectError> {
    if bytes.len() > BYTES_MAX {
        return Err(InspectError::TooLarge { bytes: bytes.len(), max: BYTES_MAX });
    }
    let why = match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            "it is a core module; build for wasm32-wasip2, or wrap it with `wasm-tools component new`"
        }
        [0, b'a', b's', b'm', ..] => "it is WebAssembly of an unknown version",
        [0x7f, b'E', b'L', b'F', ..] => "it is native or precompiled code, which consign never loads",
        [b'(', ..] => "it is the text format; translate it with `wasm-tools parse`",
        [] => "the file is empty",
        _ => "it does not begin with the WebAssembly header",
    };
    Err(InspectError::NotAComponent(why))
}

/// What a component imports and exports, as `package:name/interface@version`.
pub struct World {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

/// Compares imports and exports with the contract.
pub fn world(engine: &Engine, component: &Component) -> Result<World, InspectError> {
    let kind = component.component_type();
    let imports: Vec<String> = kind.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let exports: Vec<String> = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let refused: Vec<String> = imports.iter().filter(|name| gets(name).is_none()).cloned().collect();
    if !refused.is_empty() {
        return Err(InspectError::Import { refused: list(&refused), offered: offered() });
    }
    if !exports.iter().any(|name| name.strip_prefix(EXPORT).is_some_and(|rest| rest.starts_with('.'))) {
        return Err(InspectError::Export {
            wanted: "consign:format/formatter@1.0.0",
            world: WORLD,
            exports: list(&exports),
            imports: list(&imports),
        });
    }
    Ok(World { imports, exports })
}

/// What a plugin says of itself must be fit for keys, headers and logs; its
/// options schema is read.
pub fn description(description: &Description) -> Result<OptionsSchema, String> {
    let Description { name, version, extension, media_type, options_schema } = description;
    if PluginName::parse(name).is_err() {
        return Err(format!("its name {} is not 1 to 63 of a-z, 0-9, '-' and '_'", shown(name)));
    }
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+_".contains(&byte));
    if version.is_empty() || version.len() > 100 || !plain(version) {
        return Err(format!("its version {} is not a semantic version such as 1.2.0", shown(version)));
    }
    if extension.is_empty() || extension.len() > 32 || !plain(extension) || extension.starts_with('.') {
        return Err(format!("its extension {} is not a word such as csv", shown(extension)));
    }
    if media_type.len() > 255 || !media_type.contains('/') || !media_type.bytes().all(|b| (b' '..0x7f).contains(&b)) {
        return Err(format!("its media type {} is not one such as text/csv", shown(media_type)));
    }
    OptionsSchema::read(options_schema).map_err(|why| format!("its options schema {why}"))
}

fn offered() -> String {
    let names = |offered: &[(&'static str, &str)]| offered.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    format!("{PACKAGE}{{{}}}@1 and of WASI 0.2 {}", names(&CONTRACT).join(","), names(&WASI).join(", "))
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}
