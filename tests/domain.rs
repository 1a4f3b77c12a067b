//! The rules of keys and profiles.

mod key;
mod profile;
