//! `limits`, of a plugin and of a share alone.

use super::section::Section;
use super::shape::{Key, Kind, Need, Shape, default};
use super::tree::Table;
use crate::limits::Limits;

pub(super) static OF_PLUGIN: Shape = Shape {
    noun: "limits",
    doc: "What one plugin may use up in one delivery. Each of them ends the plugin, never the daemon.",
    keys: &KEYS,
    synonyms: SYNONYMS,
};

pub(super) static OF_SHARE: Shape = Shape {
    noun: "limits",
    doc: "What the plugin may use up in one delivery of this share. Each key stands in the place of the plugin's.",
    keys: &INHERITED,
    synonyms: SYNONYMS,
};

const SYNONYMS: &[(&str, &str)] =
    &[("cpu", "cpu_time"), ("timeout", "wall_time"), ("output", "output_bytes"), ("memory_bytes", "memory")];

static KEYS: [Key; 9] = all();

/// The same keys, whose defaults are what the plugin has.
static INHERITED: [Key; 9] = {
    let mut keys = all();
    let mut i = 0;
    while i < keys.len() {
        keys[i].need = Need::Default("the plugin's");
        i += 1;
    }
    keys
};

const fn all() -> [Key; 9] {
    [
        default(
            "memory",
            Kind::Size(1 << 20, 4 << 30),
            r#""256 MiB""#,
            r#""512 MiB""#,
            "Linear memory, all memories together; at most 4 GiB, which is all that 32 bits reach.",
        ),
        default(
            "cpu_time",
            Kind::Duration(10, 7 * 86_400_000),
            r#""30min""#,
            r#""1h""#,
            "Time spent computing; waiting for uploads does not count.",
        ),
        default(
            "wall_time",
            Kind::Duration(10, 7 * 86_400_000),
            r#""4h""#,
            r#""12h""#,
            "Time from the first call to the last, waiting included.",
        ),
        default(
            "output_bytes",
            Kind::Size(1, 1 << 50),
            r#""1 TiB""#,
            r#""50 GiB""#,
            "All objects, before compression.",
        ),
        default("objects", Kind::Int(1, 1_000_000), "10000", "100", "Objects of one delivery."),
        default("log_lines", Kind::Int(0, 10_000_000), "10000", "1000", "Log lines, stdout and stderr included."),
        default("stack", Kind::Size(64 << 10, 64 << 20), r#""1 MiB""#, r#""2 MiB""#, "Stack of guest calls."),
        default("table_elements", Kind::Int(1, 10_000_000), "100000", "100000", "Elements over all tables."),
        default(
            "call_bytes",
            Kind::Size(64 << 10, 1 << 30),
            r#""16 MiB""#,
            r#""32 MiB""#,
            "Bytes handed over in one call to the host.",
        ),
    ]
}

/// As a table of `[plugins]` has them.
pub(super) fn of_plugin(plugin: &Table) -> Limits {
    let usual = Limits::default();
    within(plugin, &OF_PLUGIN).map_or_else(|| usual.clone(), |section| read(&section, &usual))
}

/// Those of the share's plugin, with what the share says in their place; None where it says nothing.
pub(super) fn of_share(share: &Section<'_>, plugins: Option<&Table>) -> Option<Box<Limits>> {
    let section = within(share.table, &OF_SHARE)?;
    let plugin = share.text("plugin").and_then(|name| plugins?.get(name)?.node.table());
    let usual = plugin.map_or_else(Limits::default, of_plugin);
    Some(Box::new(read(&section, &usual)))
}

fn within<'a>(table: &'a Table, shape: &'static Shape) -> Option<Section<'a>> {
    let (name, entry) = table.get_key_value("limits")?;
    Some(Section { name, name_span: entry.key, table: entry.node.table()?, shape })
}

/// What is written, and otherwise what is usual.
pub(super) fn read(section: &Section<'_>, usual: &Limits) -> Limits {
    let bytes = |key| section.size(key).and_then(|bytes| usize::try_from(bytes).ok());
    Limits {
        memory_bytes: section.size("memory").unwrap_or(usual.memory_bytes),
        cpu_time: section.duration("cpu_time").unwrap_or(usual.cpu_time),
        wall_time: section.duration("wall_time").unwrap_or(usual.wall_time),
        output_bytes: section.size("output_bytes").unwrap_or(usual.output_bytes),
        objects: section.int("objects").unwrap_or(usual.objects),
        log_lines: section.int("log_lines").unwrap_or(usual.log_lines),
        stack_bytes: bytes("stack").unwrap_or(usual.stack_bytes),
        table_elements: section.int("table_elements").unwrap_or(usual.table_elements),
        call_bytes: bytes("call_bytes").unwrap_or(usual.call_bytes),
    }
}
