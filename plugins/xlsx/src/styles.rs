//! The styles of a workbook: of the header, and of each number format.

use std::fmt::Write as _;

use crate::xml::escaped;

/// The style of a cell, by its number in the workbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style(pub usize);

/// As Excel shows it without being told how.
pub(crate) const GENERAL: Style = Style(0);
/// Bold on grey, with a line below.
pub(crate) const HEADER: Style = Style(1);

/// Numbers of formats that are not built into Excel begin here.
const FIRST_FORMAT: usize = 164;

/// The styles that a workbook needs.
#[derive(Debug, Default)]
pub(crate) struct Styles {
    formats: Vec<String>,
}

impl Styles {
    /// The style with this number format.
    pub fn of_format(&mut self, format: &str) -> Style {
        let known = self.formats.iter().position(|known| known == format);
        let index = known.unwrap_or_else(|| {
            self.formats.push(format.to_owned());
            self.formats.len() - 1
        });
        Style(HEADER.0 + 1 + index)
    }

    /// `xl/styles.xml`.
    pub fn xml(&self) -> String {
        let mut formats = String::new();
        let mut styles = String::new();
        for (index, format) in self.formats.iter().enumerate() {
            let number = FIRST_FORMAT + index;
            let _ = write!(formats, r#"<numFmt numFmtId="{number}" formatCode="{}"/>"#, escaped(format));
            let _ = write!(
                styles,
                r#"<xf numFmtId="{number}" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>"#
            );
        }
        let formats = match self.formats.len() {
            0 => String::new(),
            count => format!(r#"<numFmts count="{count}">{formats}</numFmts>"#),
        };
        format!(
            concat!(
                r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?>"#,
                "\n",
                r#"<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">{}"#,
                r#"<fonts count="2"><font><sz val="11"/><name val="Calibri"/><family val="2"/></font>"#,
                r#"<font><b/><sz val="11"/><name val="Calibri"/><family val="2"/></font></fonts>"#,
                r#"<fills count="3"><fill><patternFill patternType="none"/></fill>"#,
                r#"<fill><patternFill patternType="gray125"/></fill>"#,
                r#"<fill><patternFill patternType="solid"><fgColor rgb="FFD9D9D9"/><bgColor indexed="64"/></patternFill></fill></fills>"#,
                r#"<borders count="2"><border><left/><right/><top/><bottom/><diagonal/></border>"#,
                r#"<border><left/><right/><top/><bottom style="thin"><color auto="1"/></bottom><diagonal/></border></borders>"#,
                r#"<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>"#,
                r#"<cellXfs count="{}"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>"#,
                r#"<xf numFmtId="0" fontId="1" fillId="2" borderId="1" xfId="0" applyFont="1" applyFill="1" applyBorder="1"/>{}</cellXfs>"#,
                r#"<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>"#,
            ),
            formats,
            self.formats.len() + 2,
            styles
        )
    }
}
