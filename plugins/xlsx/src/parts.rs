//! The parts of a workbook besides its cells (ECMA-376).

use std::fmt::Write as _;

use consign_sdk::text::Buffer;

use crate::workbook::Head;
use crate::xml::escaped;

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n";
const MAIN: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
const RELATIONSHIPS: &str = "http://schemas.openxmlformats.org/package/2006/relationships";
const OFFICE: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
const TYPE: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml";

/// Where in the ZIP the sheet of this number is, from 1.
pub(crate) fn sheet_path(number: usize) -> String {
    format!("xl/worksheets/sheet{number}.xml")
}

/// What comes before the first row.
pub(crate) fn sheet_begin(head: &Head, number: usize, out: &mut Buffer) {
    let mut begin = format!("{DECLARATION}<worksheet xmlns=\"{MAIN}\">");
    let selected = if number == 1 { " tabSelected=\"1\"" } else { "" };
    let _ = write!(begin, "<sheetViews><sheetView{selected} workbookViewId=\"0\">");
    if head.freeze && head.cells.is_some() {
        begin.push_str("<pane ySplit=\"1\" topLeftCell=\"A2\" activePane=\"bottomLeft\" state=\"frozen\"/>");
        begin.push_str("<selection pane=\"bottomLeft\" activeCell=\"A2\" sqref=\"A2\"/>");
    }
    begin.push_str("</sheetView></sheetViews><sheetFormatPr defaultRowHeight=\"15\"/><cols>");
    for (column, width) in (1..).zip(&head.widths) {
        let _ = write!(begin, "<col min=\"{column}\" max=\"{column}\" width=\"{width}\" customWidth=\"1\"/>");
    }
    begin.push_str("</cols><sheetData>");
    out.extend(begin.as_bytes());
}

/// The other parts, when the sheets are known: paths and contents.
pub(crate) fn others(sheets: &[String], styles: &str) -> [(&'static str, String); 5] {
    let mut types = format!(
        "{DECLARATION}<Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">\
         <Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/>\
         <Default Extension=\"xml\" ContentType=\"application/xml\"/>\
         <Override PartName=\"/xl/workbook.xml\" ContentType=\"{TYPE}.sheet.main+xml\"/>\
         <Override PartName=\"/xl/styles.xml\" ContentType=\"{TYPE}.styles+xml\"/>"
    );
    let mut workbook = format!(
        "{DECLARATION}<workbook xmlns=\"{MAIN}\" xmlns:r=\"{OFFICE}\"><bookViews><workbookView/></bookViews><sheets>"
    );
    let mut related = format!("{DECLARATION}<Relationships xmlns=\"{RELATIONSHIPS}\">");
    for (number, name) in (1..).zip(sheets) {
        let (path, name) = (sheet_path(number), escaped(name));
        let _ = write!(types, "<Override PartName=\"/{path}\" ContentType=\"{TYPE}.worksheet+xml\"/>");
        let _ = write!(workbook, "<sheet name=\"{name}\" sheetId=\"{number}\" r:id=\"rId{number}\"/>");
        let target = path.trim_start_matches("xl/");
        let _ = write!(related, "<Relationship Id=\"rId{number}\" Type=\"{OFFICE}/worksheet\" Target=\"{target}\"/>");
    }
    let last = sheets.len() + 1;
    types.push_str("</Types>");
    workbook.push_str("</sheets></workbook>");
    let _ = write!(
        related,
        "<Relationship Id=\"rId{last}\" Type=\"{OFFICE}/styles\" Target=\"styles.xml\"/></Relationships>"
    );
    let root = format!(
        "{DECLARATION}<Relationships xmlns=\"{RELATIONSHIPS}\"><Relationship Id=\"rId1\" \
         Type=\"{OFFICE}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
    );
    [
        ("xl/styles.xml", styles.to_owned()),
        ("xl/workbook.xml", workbook),
        ("xl/_rels/workbook.xml.rels", related),
        ("_rels/.rels", root),
        ("[Content_Types].xml", types),
    ]
}
