//! Plugins in OCI registries: what a reference names is pulled once, held against
//! its digest, kept in the cache by that digest, and held against it again
//! whenever it is loaded. Signatures are kept beside it and verified as often.
//!
//! A plugin is an image manifest with one layer of WebAssembly (the layout of the
//! CNCF's "Wasm OCI Artifact").

mod depot;

mod client;
mod layout;
mod push;
mod signature;
mod store;

mod access;
mod docker;
mod error;

pub use client::Registries;
pub use depot::{Depot, Fetch, Pulled};
pub use layout::Artifact;
pub use push::About;
