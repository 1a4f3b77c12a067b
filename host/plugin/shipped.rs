//! The format plugins that the binary carries. `build.rs` compiles them from
//! `plugins/`.

/// Names of the shipped formats, which every configuration can use.
pub use crate::config::SHIPPED;

/// The component of a shipped format; none when there is none of this name.
pub fn shipped(name: &str) -> Option<&'static [u8]> {
    match name {
        "arrow" => Some(include_bytes!(concat!(env!("OUT_DIR"), "/arrow.wasm"))),
        "avro" => Some(include_bytes!(concat!(env!("OUT_DIR"), "/avro.wasm"))),
        "csv" => Some(include_bytes!(concat!(env!("OUT_DIR"), "/csv.wasm"))),
        "fixed-width" => Some(include_bytes!(concat!(env!("OUT_DIR"), "/fixed-width.wasm"))),
        "jsonl" => Some(include_bytes!(concat!(env!("OUT_DIR"), "/jsonl.wasm"))),
        "parquet" => Some(include_bytes!(concat!(env!("OUT_DIR"), "/parquet.wasm"))),
        "xlsx" => Some(include_bytes!(concat!(env!("OUT_DIR"), "/xlsx.wasm"))),
        _ => None,
    }
}

/// `plugins/examples/fixed-flights`, the demo's custom format.
pub const FIXED_FLIGHTS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fixed-flights.wasm"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_format_is_a_component() {
        // WebAssembly's magic number, then version 13 of layer 1: a component.
        const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
        for name in SHIPPED {
            assert!(shipped(name).unwrap().starts_with(COMPONENT), "{name}");
        }
        assert!(FIXED_FLIGHTS.starts_with(COMPONENT));
        assert_eq!(shipped("xml"), None);
    }
}
