//! What the author of a plugin runs it with: the daemon's own engine and limits,
//! without a share, a ledger or a bucket.

mod project;

pub use project::{Project, ProjectError};
