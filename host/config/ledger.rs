//! `[ledger]`

use std::time::Duration;

use super::model::LedgerSettings;
use super::section::Section;
use super::shape::{Kind, Shape, default};

const DAY: u64 = 24 * 3_600;

pub(crate) static LEDGER: Shape = Shape {
    noun: "ledger",
    doc: "What is remembered.",
    keys: &[default(
        "retention",
        Kind::Duration(DAY * 1000, 1000 * 366 * DAY * 1000),
        r#""90d""#,
        r#""400d""#,
        "How long slots and their runs are remembered after they ended. The daemon then forgets them. A slot that is \
         forgotten is not planned again; sent by hand, it fails at the manifest that is in the bucket.",
    )],
    synonyms: &[("keep", "retention"), ("retain", "retention")],
};

pub(crate) fn read(section: Option<Section<'_>>) -> LedgerSettings {
    let retention = section.and_then(|s| s.duration("retention")).unwrap_or(Duration::from_secs(90 * DAY));
    LedgerSettings { retention }
}
