//! `consign.lock`: what the references of plugins named when they were pulled.
//! It lies beside the configuration, is committed with it, and is written by
//! `consign plugin pull`, `upgrade` and `rollback` alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files;
use super::report::{ConfigErrors, Problems};
use super::section::Section;
use super::shape::{Key, Kind, Shape, check_root, optional, required};
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
    /// What it was pinned to before.
    pub previous: Option<Box<Pin>>,
}

impl Pin {
    /// Whether both name the same component, of the same manifest.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.manifest, &self.component) == (&other.manifest, &other.component)
    }

    /// With what was pinned until now to go back to, and nothing before it.
    pub fn after(self, before: Option<&Self>) -> Self {
        let previous = match before {
            Some(before) if before.is_same(&self) => before.previous.clone(),
            Some(before) => Some(Box::new(Self { previous: None, ..before.clone() })),
            None => None,
        };
        Self { previous, ..self }
    }
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

const MANIFEST: Key = required("manifest", DIGEST, r#""sha256:…""#, "Digest of the manifest.");
const COMPONENT: Key = required("component", DIGEST, r#""sha256:…""#, "Digest of the component.");

static PIN: Shape = Shape {
    noun: "pin",
    doc: "What one reference names.",
    keys: &[
        required("oci", super::TEXT, r#""registry.example.com/team/fmt:1.4""#, "The reference."),
        MANIFEST,
        COMPONENT,
        optional("previous", Kind::Table(&PREVIOUS), "{}", "What it was pinned to before."),
    ],
    synonyms: &[],
};

static PREVIOUS: Shape = Shape {
    noun: "earlier pin",
    doc: "What `consign plugin rollback` goes back to.",
    keys: &[
        required("oci", super::TEXT, r#""registry.example.com/team/fmt:1.3""#, "The reference."),
        MANIFEST,
        COMPONENT,
    ],
    synonyms: &[],
};

/// Of a configuration, `consign.lock` beside `consign.toml`.
pub(super) fn path(config: &Path) -> PathBuf {
    config.with_extension("lock")
}

/// The pins of a lock file; none when there is no such file.
pub fn read(path: &Path) -> Result<BTreeMap<PluginName, Pin>, ConfigErrors> {
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
        let previous = section.section("previous", &PREVIOUS).and_then(|earlier| pin(&earlier, &mut problems));
        if let (Ok(name), Some(pin)) = (PluginName::parse(section.name), pin(&section, &mut problems)) {
            pins.insert(name, Pin { previous: previous.map(Box::new), ..pin });
        }
    }
    if problems.has_errors() { Err(problems.sorted()) } else { Ok(pins) }
}

fn pin(section: &Section<'_>, problems: &mut Problems) -> Option<Pin> {
    let reference = section.parse("oci", OciReference::parse, problems);
    let manifest = section.parse("manifest", ContentDigest::parse, problems);
    let component = section.parse("component", ContentDigest::parse, problems);
    Some(Pin { reference: reference?, manifest: manifest?, component: component?, previous: None })
}

/// The text of a lock file, sorted by name.
pub fn lock_text(pins: &BTreeMap<PluginName, Pin>) -> String {
    let mut text =
        "# Written by `consign plugin pull`, `upgrade` and `rollback`: what plugins from registries are pinned to.\n\
        # Commit it beside the configuration; nothing else is ever run.\nversion = 1\n"
            .to_owned();
    if pins.is_empty() {
        text.push_str("plugins = {}\n");
    }
    for (name, pin) in pins {
        text.push_str(&format!("\n[plugins.{name}]\n{}", pin_text(pin)));
        if let Some(earlier) = &pin.previous {
            text.push_str(&format!("\n[plugins.{name}.previous]\n{}", pin_text(earlier)));
        }
    }
    text
}

fn pin_text(Pin { reference, manifest, component, .. }: &Pin) -> String {
    format!("oci = \"{reference}\"\nmanifest = \"{manifest}\"\ncomponent = \"{component}\"\n")
}
