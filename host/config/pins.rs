//! `consign.lock`: what the references of plugins named when they were pulled.
//! It lies beside the configuration, is committed with it, and is written by
//! `consign plugin pull` alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files;
use super::report::ConfigErrors;
use super::section::Section;
use super::shape::{Kind, Shape, check_root, required};
use super::source::Span;
use crate::domain::{ContentDigest, OciReference, PluginName};

/// What one plugin's reference names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// As configured when it was pulled.
    pub reference: OciReference,
    /// Of the manifest, which is what is signed.
    pub manifest: ContentDigest,
    /// Of the component itself.
    pub component: ContentDigest,
}

/// Of the format that is written here.
const VERSION: i64 = 1;

const DIGEST: Kind = Kind::Text("^sha256:[0-9a-f]{64}$");

static LOCK: Shape = Shape {
    noun: "the lock file",
    doc: "What the references of plugins are pinned to.",
    keys: &[
        required("version", Kind::Int(1, i64::MAX), "1", "Of this format."),
        required("plugins", Kind::Map(&PINS), "{}", "By name."),
    ],
    synonyms: &[],
};

static PINS: super::shape::Names = super::names("plugin", |text| PluginName::parse(text).map(drop), Kind::Table(&PIN));

static PIN: Shape = Shape {
    noun: "pin",
    doc: "What one reference names.",
    keys: &[
        required("oci", super::TEXT, r#""registry.example.com/team/fmt:1.4""#, "The reference."),
        required("manifest", DIGEST, r#""sha256:…""#, "Digest of the manifest."),
        required("component", DIGEST, r#""sha256:…""#, "Digest of the component."),
    ],
    synonyms: &[],
};

/// Of a configuration, `consign.lock` beside `consign.toml`.
pub(super) fn path(config: &Path) -> PathBuf {
    config.with_extension("lock")
}

/// The pins of a lock file; none when there is no such file.
pub(super) fn read(path: &Path) -> Result<BTreeMap<PluginName, Pin>, ConfigErrors> {
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let (origin, mut problems) = files::read(path)?;
    check_root(&LOCK, origin.root(), &mut problems);
    let root = Section { name: LOCK.noun, name_span: Span::START, table: origin.root(), shape: &LOCK };
    if root.int::<i64>("version").is_some_and(|version| version > VERSION) {
        let help = "use that one; or remove the file and run `consign plugin pull`";
        problems.error(root.span("version"), "the lock file was written by a newer consign", help);
    }
    let mut pins = BTreeMap::new();
    let plugins = origin.root().get("plugins").and_then(|entry| entry.node.table());
    for section in Section::each(plugins, &PIN) {
        let reference = section.parse("oci", OciReference::parse, &mut problems);
        let manifest = section.parse("manifest", ContentDigest::parse, &mut problems);
        let component = section.parse("component", ContentDigest::parse, &mut problems);
        let name = PluginName::parse(section.name).ok();
        if let (Some(name), Some(reference), Some(manifest), Some(component)) = (name, reference, manifest, component) {
            pins.insert(name, Pin { reference, manifest, component });
        }
    }
    if problems.has_errors() { Err(problems.sorted()) } else { Ok(pins) }
}

/// The text of a lock file, sorted by name.
pub fn lock_text(pins: &BTreeMap<PluginName, Pin>) -> String {
    let mut text = "# Written by `consign plugin pull`: what plugins from registries are pinned to.\n\
        # Commit it beside the configuration; nothing else is ever run.\nversion = 1\n"
        .to_owned();
    if pins.is_empty() {
        text.push_str("plugins = {}\n");
    }
    for (name, Pin { reference, manifest, component }) in pins {
        text.push_str(&format!(
            "\n[plugins.{name}]\noci = \"{reference}\"\nmanifest = \"{manifest}\"\ncomponent = \"{component}\"\n"
        ));
    }
    text
}
