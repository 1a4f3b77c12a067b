//! The keys of a share that say where its objects are.

use super::report::Problems;
use super::section::Section;
use crate::domain::{KeyTemplate, Mode};

/// What they say together.
pub(super) struct Keys {
    pub mode: Mode,
    pub key: KeyTemplate,
    pub success_marker: bool,
    pub latest_pointer: Option<KeyTemplate>,
}

impl Keys {
    pub fn read(section: &Section<'_>, problems: &mut Problems) -> Self {
        let mode = if section.text("mode") == Some("replace") { Mode::Replace } else { Mode::Slot };
        let key = key(section, mode, problems);
        let latest_pointer = latest_pointer(section, mode, &key, problems);
        Self { mode, key, success_marker: success_marker(section), latest_pointer }
    }
}

fn success_marker(section: &Section<'_>) -> bool {
    section.bool("success_marker").unwrap_or(false)
}

fn key(section: &Section<'_>, mode: Mode, problems: &mut Problems) -> KeyTemplate {
    match mode {
        Mode::Slot => section.parse("key", KeyTemplate::parse, problems).unwrap_or_default(),
        Mode::Replace => {
            one_at_a_time(section, "a later slot could be replaced by an earlier one", problems);
            if success_marker(section) {
                let why = "is of no use with `mode = \"replace\"`: that of the slot before is there already";
                section.refuse(&["success_marker"], why, "remove it; the manifest says which slot is there", problems);
            }
            let key = section.parse("key", KeyTemplate::parse_replaced, problems);
            key.unwrap_or_else(KeyTemplate::default_replaced)
        }
    }
}

fn latest_pointer(
    section: &Section<'_>,
    mode: Mode,
    key: &KeyTemplate,
    problems: &mut Problems,
) -> Option<KeyTemplate> {
    if !section.bool("latest_pointer").unwrap_or(false) {
        return None;
    }
    if mode == Mode::Replace {
        let why = "is of no use with `mode = \"replace\"`, where the newest slot is always at the same keys";
        section.refuse(&["latest_pointer"], why, "remove one of the two", problems);
        return None;
    }
    one_at_a_time(section, "`latest.json` could go back", problems);
    let pointer = key.above_slots();
    if pointer.is_none() {
        let message =
            "`latest_pointer` has no place: the key has no folder of the share alone that all its slots are in";
        let help = "let the key begin with `{share}/`, before any instant";
        problems.error(section.span("latest_pointer"), message, help);
    }
    pointer
}

fn one_at_a_time(section: &Section<'_>, otherwise: &str, problems: &mut Problems) {
    if section.text("overlap") == Some("allow") {
        let message = format!("`overlap = \"allow\"` lets slots go on side by side, so that {otherwise}");
        problems.error(section.span("overlap"), message, "write \"skip\", \"queue\" or \"cancel\"");
    }
}
