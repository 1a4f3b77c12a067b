//! Datasets on real files: what is read, for whom, and what is refused.

#![cfg(test)]

mod assets;
mod binding;
mod broken;
mod bucket;
mod changing;
mod exact;
mod reading;
mod refused;
mod spilling;
mod tenants;
mod world;
