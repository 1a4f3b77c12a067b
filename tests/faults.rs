//! consign between faults: the real binary, a proxy that lets things go wrong, and
//! both S3 servers. What the history must show is in `tests/support/promises.rs`.
//!
//! By default a part of it; `make soak` does it all.

mod forged;
mod outages;
mod pair;
mod scene;
mod seeds;
mod storm;
mod strays;
mod sweep;
