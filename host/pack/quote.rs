//! How each format writes a text so that it stays one.

pub(super) use crate::domain::shell_word as shell;

/// For YAML, between double quotes and in ASCII (YAML 1.2, "Escaped Characters"; 1.1 has the same).
pub(super) fn yaml(text: &str) -> String {
    escaped(text)
}

/// For Terraform, between double quotes (Terraform, "Strings and Templates").
pub(super) fn terraform(text: &str) -> String {
    template(&escaped(text))
}

/// Between double quotes and in ASCII, by the escapes that YAML and Terraform have in common.
fn escaped(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            ' '..='~' => quoted.push(c),
            c if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// For Terraform's templates, of which here-documents are one: `${` and `%{` would begin an
/// expression.
pub(super) fn template(text: &str) -> String {
    text.replace("${", "$${").replace("%{", "%%{")
}

/// For a comment, which ends with its line, and for a terminal, which obeys control characters.
pub(super) fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if is_plain(c) { vec![c] } else { c.escape_unicode().collect() }).collect()
}

fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// For Markdown, as code: between more backquotes than there are in it (CommonMark, "Code spans").
pub(super) fn code(text: &str) -> String {
    let text = plain(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_or_begin_something_does_not() {
        assert_eq!(shell("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(yaml("a\"\\\n\u{e9}🦀"), r#""a\"\\\u000a\u00e9\U0001f980""#);
        assert_eq!(terraform("${x}%{y}\"\n"), r#""$${x}%%{y}\"\u000a""#);
        assert_eq!(plain("a\nb\u{202e}c"), "a\\u{a}b\\u{202e}c");
        assert_eq!(code("a``b`"), "``` a``b` ```");
    }
}
