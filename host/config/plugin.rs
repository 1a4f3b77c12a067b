//! `[plugins.NAME]`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::limits;
use super::model::{Plugin, PluginSource};
use super::pins::Pin;
use super::report::{Problems, listed, quote};
use super::section::Section;
use super::shape::{Kind, Names, Shape, TEXT, default, optional};
use super::tree::Table;
use crate::domain::{Invalid, OciReference, PluginName};
use crate::limits::{Isolation, Limits};

/// Formatters that are part of the binary, which every configuration can use.
pub const SHIPPED: [&str; 7] = ["arrow", "avro", "csv", "fixed-width", "jsonl", "parquet", "xlsx"];

pub(crate) static PLUGINS: Names =
    super::names("plugin", |text| PluginName::parse(text).map(drop), Kind::Table(&PLUGIN));

static PLUGIN: Shape = Shape {
    noun: "plugin",
    doc: "A formatter of your own, or limits for one that is shipped.",
    keys: &[
        optional(
            "path",
            TEXT,
            r#""plugins/nacha.wasm""#,
            "The component's file, relative to this file. Either it or `oci` is required, but refused for the shipped ones.",
        ),
        optional(
            "oci",
            TEXT,
            r#""registry.example.com/team/fmt:1.4""#,
            "Where the component is in an OCI registry: registry, repository and tag or digest. `consign plugin pull` \
             fetches it and pins what it is in `consign.lock`, and nothing else is ever run.",
        ),
        optional(
            "sha256",
            Kind::Text("^(sha256:)?[0-9a-fA-F]{64}$"),
            r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08""#,
            "What the SHA-256 of the file at `path` must be, so that nothing else is ever run.",
        ),
        default(
            "isolation",
            Kind::Choice(&Isolation::NAMES),
            r#""process", and "in-process" for the shipped ones"#,
            r#""in-process""#,
            "In a process of its own, which may do nothing but compute; or in consign's own.",
        ),
        default(
            "quarantine_after",
            Kind::Int(0, 1_000_000),
            "5, and 0 for the shipped ones",
            "3",
            "After so many deliveries in a row that ended by the plugin's own fault nothing more of it is started, until it \
             is another component or `consign plugin release` lets it go. 0 is never.",
        ),
        optional(
            "limits",
            Kind::Table(&limits::OF_PLUGIN),
            r#"{ memory = "512 MiB" }"#,
            "What it may use up in one delivery.",
        ),
    ],
    synonyms: &[
        ("file", "path"),
        ("image", "oci"),
        ("url", "oci"),
        ("reference", "oci"),
        ("digest", "sha256"),
        ("limit", "limits"),
        ("sandbox", "isolation"),
        ("quarantine", "quarantine_after"),
    ],
};

pub(crate) fn read(
    plugins: Option<&Table>,
    base: impl Fn(usize) -> PathBuf,
    pins: &BTreeMap<PluginName, Pin>,
    problems: &mut Problems,
) -> BTreeMap<PluginName, Arc<Plugin>> {
    let mut read = BTreeMap::new();
    for section in Section::each(plugins, &PLUGIN) {
        let Ok(name) = PluginName::parse(section.name) else { continue };
        let limits = limits::of_plugin(section.table);
        let sha256 = section.parse("sha256", digest, problems);
        let source = if SHIPPED.contains(&section.name) {
            let why = format!("is for plugins of your own, but `{name}` is part of consign");
            let help = "give yours another name; limits of a shipped plugin can be set";
            section.refuse(&["path", "oci", "sha256"], &why, help, problems);
            PluginSource::Shipped
        } else if section.has("oci") {
            section.refuse(&["path"], "cannot be given together with `oci`", "remove one of them", problems);
            let help = "remove it: `consign plugin pull` pins what it fetches in consign.lock";
            section.refuse(&["sha256"], "is for `path`", help, problems);
            let Some(reference) = section.parse("oci", OciReference::parse, problems) else { continue };
            PluginSource::Oci { reference, pin: pins.get(&name).cloned() }
        } else {
            let Some(path) = section.parse("path", file, problems) else {
                if !section.has("path") {
                    let message = format!("plugin {} has neither `path` nor `oci`", quote(section.name));
                    let help = format!(
                        "add `path = \"plugins/NAME.wasm\"`, or `oci = \"REGISTRY/REPOSITORY:TAG\"` (only {} are shipped)",
                        listed(SHIPPED)
                    );
                    problems.error(section.name_span, message, help);
                }
                continue;
            };
            PluginSource::File { path: base(section.span("path").file()).join(path), sha256 }
        };
        let isolation = isolation(&section, &source);
        let quarantine_after = section.int("quarantine_after").unwrap_or(quarantine_after(&source));
        read.insert(name.clone(), Arc::new(Plugin { name, source, isolation, limits, quarantine_after }));
    }
    read
}

/// Adds the shipped plugins that are used, with the default limits.
pub(crate) fn with_shipped<'a>(
    mut plugins: BTreeMap<PluginName, Arc<Plugin>>,
    used: impl Iterator<Item = &'a PluginName>,
) -> BTreeMap<PluginName, Arc<Plugin>> {
    for name in used.filter(|name| SHIPPED.contains(&name.as_str())) {
        plugins.entry(name.clone()).or_insert_with(|| {
            let (name, source, isolation) = (name.clone(), PluginSource::Shipped, Isolation::InProcess);
            let quarantine_after = quarantine_after(&source);
            Arc::new(Plugin { name, source, isolation, limits: Limits::default(), quarantine_after })
        });
    }
    plugins
}

/// What others wrote gets the second wall.
fn isolation(section: &Section<'_>, source: &PluginSource) -> Isolation {
    let written = section.text("isolation");
    let usual = if *source == PluginSource::Shipped { Isolation::InProcess } else { Isolation::Process };
    Isolation::ALL.into_iter().find(|isolation| written == Some(isolation.as_str())).unwrap_or(usual)
}

/// What is shipped ends like that by what it is given: it is not halted for all who use it.
fn quarantine_after(source: &PluginSource) -> u32 {
    if *source == PluginSource::Shipped { 0 } else { 5 }
}

fn file(text: &str) -> Result<PathBuf, Invalid> {
    match text.split_once("://") {
        Some(("oci", _)) => Err(Invalid::new("is in a registry; write it as `oci`, without `oci://`")),
        Some(_) => Err(Invalid::new("is a URL; fetch the file, pin its `sha256`, and write its path")),
        None if text.is_empty() => Err(Invalid::new("is empty; write the path of a component's file")),
        None => Ok(text.into()),
    }
}

/// 64 hex digits, in lower case.
fn digest(text: &str) -> Result<String, Invalid> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(digits.to_ascii_lowercase());
    }
    Err(Invalid::new("is not a SHA-256; write its 64 hex digits, as `sha256sum FILE` prints them"))
}
