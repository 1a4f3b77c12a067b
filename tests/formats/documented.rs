//! docs/formats.md has the options that the formats have.

use std::fmt::Write as _;

use consign::plugin::{SHIPPED, described};
use serde_json::{Value, json};

use super::world::component;

const PAGE: &str = "docs/formats.md";
const END: &str = "<!-- end -->";

/// One row for each option of a JSON Schema.
fn table(schema: &Value) -> String {
    let mut table = "| option | takes | default | |\n|---|---|---|---|\n".to_owned();
    for option in described(&schema.to_string()) {
        let default = option.default.map(|default| format!("`{default}`")).unwrap_or_default();
        let row = [format!("`{}`", option.name), option.takes, default, option.doc];
        let cells = row.map(|cell| cell.replace('|', "\\|")).join(" | ");
        writeln!(table, "| {cells} |").unwrap();
    }
    table
}

/// The page with `table` between the marker and the end behind it.
fn with(page: &str, marker: &str, table: &str) -> String {
    let marker = format!("<!-- {marker} -->\n");
    let (before, rest) = page.split_once(&marker).unwrap_or_else(|| panic!("{PAGE} lacks {marker}"));
    let (_, after) = rest.split_once(END).unwrap();
    format!("{before}{marker}{table}{END}{after}")
}

#[test]
fn the_page_of_formats_is_complete() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let written = std::fs::read_to_string(&path).unwrap();
    let mut page = written.clone();
    for name in SHIPPED {
        assert!(page.contains(&format!("\n## {name}\n")), "{PAGE} has no section of {name}");
        let schema: Value = serde_json::from_str(&component(name).description().options_schema).unwrap();
        page = with(&page, &format!("options of {name}"), &table(&schema));
        if name == "fixed-width" {
            let place = json!({ "properties": schema["$defs"]["Place"]["properties"], "$defs": schema["$defs"] });
            page = with(&page, "places of fixed-width", &table(&place));
        }
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    } else {
        assert!(written == page, "{PAGE} is behind: run BLESS=1 cargo test the_page_of_formats");
    }
}
