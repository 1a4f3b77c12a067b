//! Datasets on real files: what is read, for whom, and what is refused.

#![cfg(test)]

mod binding;
mod broken;
mod bucket;
mod reading;
mod refused;
mod spilling;
mod tenants;
mod world;
