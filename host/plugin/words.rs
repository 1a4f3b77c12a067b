//! What a plugin says, made fit for the log, the ledger and a terminal.

use crate::limits::SAID_BYTES_MAX;

/// Text that cannot forge lines or steer a terminal, cut to [`SAID_BYTES_MAX`].
pub fn printable(bytes: &[u8]) -> String {
    let cut = bytes.len() > SAID_BYTES_MAX;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SAID_BYTES_MAX)]);
    let mut line = String::with_capacity(text.len());
    for c in text.trim_end_matches('\r').chars() {
        if misleads(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    if cut {
        line.push_str(" …(cut)");
    }
    line
}

/// What [`printable`] has made, unless somebody only says so.
pub fn kept(text: &str) -> String {
    // Escapes make a text longer after it was cut.
    const LONGER: usize = 10;
    match text.len() <= LONGER * SAID_BYTES_MAX && !text.chars().any(misleads) {
        true => text.to_owned(),
        false => printable(text.as_bytes()),
    }
}

/// Control characters, and those that end a line or turn its direction.
fn misleads(c: char) -> bool {
    c.is_control() && c != '\t' || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name as it is shown in a message: quoted, escaped and not too long.
pub fn shown(name: &str) -> String {
    let short: String = name.chars().take(80).collect();
    let more = if short.len() < name.len() { "…" } else { "" };
    format!("{short:?}{more}")
}
