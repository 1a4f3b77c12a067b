//! Durations and sizes as people write them.

use std::time::Duration;

use bytesize::ByteSize;

use crate::domain::Invalid;

/// `512 MiB` as bytes, within bounds.
pub(crate) fn size_in(text: &str, min: u64, max: u64) -> Result<u64, Invalid> {
    const HELP: &str = "write a number and a unit, such as \"512 MiB\" (KiB, MiB, GiB, TiB; or kB, MB, GB, TB)";
    let unit = text.trim_end().ends_with(|c: char| c.is_ascii_alphabetic());
    let bytes = match text.trim().parse::<ByteSize>() {
        Ok(size) if unit => size.as_u64(),
        Ok(_) => return Err(Invalid::new(format!("has no unit; {HELP}"))),
        Err(_) => return Err(Invalid::new(format!("is not a size; {HELP}"))),
    };
    let shown = |bytes| ByteSize::b(bytes).display().iec().to_string().replace(".0 ", " ");
    if bytes < min {
        return Err(Invalid::new(format!("is too small; write \"{}\" or more", shown(min))));
    }
    if bytes > max {
        return Err(Invalid::new(format!("is too large; write \"{}\" or less", shown(max))));
    }
    Ok(bytes)
}

/// `30s` or `1h 30m`, within bounds of milliseconds.
pub(crate) fn duration_in(text: &str, min: u64, max: u64) -> Result<Duration, Invalid> {
    const HELP: &str = "write a number and a unit, such as \"30s\", \"15min\" or \"1h 30min\"";
    let (min, max) = (Duration::from_millis(min), Duration::from_millis(max));
    let duration = match humantime::parse_duration(text) {
        Ok(duration) => duration,
        Err(_) if text.trim().parse::<f64>().is_ok() => return Err(Invalid::new(format!("has no unit; {HELP}"))),
        Err(_) => return Err(Invalid::new(format!("is not a duration; {HELP}"))),
    };
    if duration < min {
        return Err(Invalid::new(format!("is too short; write \"{}\" or more", humantime::format_duration(min))));
    }
    if duration > max {
        return Err(Invalid::new(format!("is too long; write \"{}\" or less", humantime::format_duration(max))));
    }
    Ok(duration)
}
