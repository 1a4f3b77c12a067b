//! Texts in XML, as a workbook has them.

use consign_sdk::text::Buffer;

/// Appends a text. Characters that XML does not have are written as `_x0001_`
/// (ST_Xstring of ECMA-376), and a text that looks so is protected from it.
pub(crate) fn push_text(text: &[u8], out: &mut Buffer) {
    let mut start = 0;
    for (at, byte) in text.iter().enumerate() {
        let skipped = match byte {
            b'&' | b'<' | b'>' | b'\r' => 1,
            b'\t' | b'\n' => continue,
            0..0x20 => 1,
            b'_' if is_escape(text.get(at..).unwrap_or_default()) => 1,
            // U+FFFE and U+FFFF.
            0xef if matches!(text.get(at + 1..at + 3), Some([0xbf, 0xbe | 0xbf])) => 3,
            _ => continue,
        };
        out.extend(text.get(start..at).unwrap_or_default());
        start = at + skipped;
        match byte {
            b'&' => out.extend(b"&amp;"),
            b'<' => out.extend(b"&lt;"),
            b'>' => out.extend(b"&gt;"),
            // A line feed is what XML would make of it otherwise.
            b'\r' => out.extend(b"&#13;"),
            b'_' => out.extend(b"_x005F_"),
            0xef => out.extend(if text.get(at + 2) == Some(&0xbe) { b"_xFFFE_" } else { b"_xFFFF_" }),
            control => out.extend(format!("_x{control:04X}_").as_bytes()),
        }
    }
    out.extend(text.get(start..).unwrap_or_default());
}

/// A text for an attribute.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Whether readers would take the text's beginning for an escaped character.
fn is_escape(text: &[u8]) -> bool {
    matches!(text, [b'_', b'x', a, b, c, d, b'_', ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()))
}

/// Whether blanks of the text would be lost.
pub(crate) fn needs_space(text: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    blank(text.first()) || blank(text.last()) || text.contains(&b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_does_not_have_is_escaped_and_nothing_else() {
        let cases = [
            ("plain é 🦀 _x_ _x00", "plain é 🦀 _x_ _x00"),
            ("a<b>&c\"'", "a&lt;b&gt;&amp;c\"'"),
            ("\t\n\r\u{1}\u{7f}", "\t\n&#13;_x0001_\u{7f}"),
            ("_x0041_", "_x005F_x0041_"),
            ("\u{fffe}x\u{ffff}\u{fffd}", "_xFFFE_x_xFFFF_\u{fffd}"),
        ];
        for (text, expected) in cases {
            let mut out = Buffer::new();
            push_text(text.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(out.as_bytes()), expected);
        }
    }
}
