//! What plugins may use up, as `consign check` tells it.

use std::time::Duration;

use serde::Serialize;

use crate::cli::output::{bytes, thousands};
use crate::config::{Config, Share};
use crate::limits::Limits;

/// As JSON has them.
#[derive(Serialize)]
pub struct Shown {
    memory_bytes: u64,
    cpu_time_ms: u64,
    wall_time_ms: u64,
    output_bytes: u64,
    objects: u32,
    log_lines: u32,
    stack_bytes: usize,
    table_elements: usize,
    call_bytes: usize,
}

impl From<&Limits> for Shown {
    fn from(limits: &Limits) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            memory_bytes: limits.memory_bytes,
            cpu_time_ms: ms(limits.cpu_time),
            wall_time_ms: ms(limits.wall_time),
            output_bytes: limits.output_bytes,
            objects: limits.objects,
            log_lines: limits.log_lines,
            stack_bytes: limits.stack_bytes,
            table_elements: limits.table_elements,
            call_bytes: limits.call_bytes,
        }
    }
}

/// `memory 1.0 GiB instead of 256.0 MiB`, for each that the share has of its own.
pub fn own(config: &Config, share: &Share) -> Vec<String> {
    let plugin = share.plugin.as_ref().and_then(|name| config.plugins.get(name));
    let (Some(own), Some(plugin)) = (&share.limits, plugin) else { return Vec::new() };
    let differing = words(own).into_iter().zip(words(&plugin.limits)).filter(|(own, usual)| own != usual);
    differing.map(|((key, own), (_, usual))| format!("{key} {own} instead of {usual}")).collect()
}

/// By the keys of the configuration.
fn words(limits: &Limits) -> [(&'static str, String); 9] {
    let size = |number: usize| bytes(number as u64);
    let time = |time: Duration| humantime::format_duration(time).to_string();
    [
        ("memory", bytes(limits.memory_bytes)),
        ("cpu_time", time(limits.cpu_time)),
        ("wall_time", time(limits.wall_time)),
        ("output_bytes", bytes(limits.output_bytes)),
        ("objects", thousands(limits.objects.into())),
        ("log_lines", thousands(limits.log_lines.into())),
        ("stack", size(limits.stack_bytes)),
        ("table_elements", thousands(limits.table_elements as u64)),
        ("call_bytes", size(limits.call_bytes)),
    ]
}
