//! How two files differ, for people: changed lines of text with what cannot be
//! seen made visible, or where binary data part.

use std::fmt::Write as _;

use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices, group_diff_ops};

/// Unchanged lines shown around a change.
const CONTEXT_LINES: usize = 2;
/// Lines of a difference that are shown.
const SHOWN_LINES: usize = 40;
/// Lines after the first difference that are compared: what is beyond is only counted.
const COMPARED_LINES: usize = 2_000;
/// Characters of a line that are shown.
const SHOWN_CHARS: usize = 120;
/// Bytes of a row of a hex dump.
const ROW_BYTES: usize = 16;

/// What is different, in a few lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where it begins: `in line 3`, `at byte 42 (0x2a)`.
    pub place: String,
    /// `-` what is expected, `+` what was written, ` ` what both have.
    pub lines: Vec<String>,
}

impl Difference {
    /// None when they are the same.
    pub fn between(expected: &[u8], found: &[u8]) -> Option<Self> {
        if expected == found {
            return None;
        }
        let text = |bytes| std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        Some(match (text(expected), text(found)) {
            (Some(expected), Some(found)) => of_text(expected, found),
            _ => of_bytes(expected, found),
        })
    }
}

fn of_text(expected: &str, found: &str) -> Difference {
    let [old, new] = [expected, found].map(|text| text.split_inclusive('\n').collect::<Vec<_>>());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    // Of large files only what follows the first difference: comparing is quadratic.
    let begin = same.saturating_sub(CONTEXT_LINES);
    let [a, b] = [&old, &new].map(|lines| &lines[begin..lines.len().min(same + COMPARED_LINES)]);
    let ops = capture_diff_slices(Algorithm::Myers, a, b);
    let mut shown = Shown { lines: Vec::new(), left_out: 0 };
    for (number, group) in group_diff_ops(ops, CONTEXT_LINES).iter().enumerate() {
        if number > 0 {
            shown.push("       ⋮".to_owned());
        }
        group.iter().for_each(|op| shown.op(op, (a, b), begin));
    }
    let beyond = old.len().max(new.len()).saturating_sub(same + COMPARED_LINES);
    let mut lines = shown.lines;
    if shown.left_out > 0 {
        lines.push(format!("       … and {} more lines of the difference", shown.left_out));
    }
    if beyond > 0 {
        lines.push(format!("       … {beyond} lines further on were not compared"));
    }
    Difference { place: format!("in line {}", same + 1), lines }
}

struct Shown {
    lines: Vec<String>,
    left_out: usize,
}

impl Shown {
    fn push(&mut self, line: String) {
        if self.lines.len() < SHOWN_LINES { self.lines.push(line) } else { self.left_out += 1 }
    }

    fn op(&mut self, op: &DiffOp, (old, new): (&[&str], &[&str]), begin: usize) {
        let (tag, was, is) = op.as_tag_tuple();
        if tag == DiffTag::Equal {
            for at in is {
                self.push(format!("  {:>4} {}", begin + at + 1, cut(&visible(new[at]), 0)));
            }
            return;
        }
        // Where paired lines part, so that what is shown of long ones is what differs.
        let parts = |at: usize| {
            let pair = old.get(was.start + at).zip(new.get(is.start + at)).filter(|_| tag == DiffTag::Replace);
            pair.map_or(0, |(a, b)| visible(a).chars().zip(visible(b).chars()).take_while(|(a, b)| a == b).count())
        };
        for (at, line) in old[was.clone()].iter().enumerate() {
            self.push(format!("- {:>4} {}", begin + was.start + at + 1, cut(&visible(line), parts(at))));
        }
        for (at, line) in new[is.clone()].iter().enumerate() {
            self.push(format!("+ {:>4} {}", begin + is.start + at + 1, cut(&visible(line), parts(at))));
        }
    }
}

/// A line with its end, its tabs, its last spaces and what has no shape of its own.
fn visible(line: &str) -> String {
    let (text, end) = match line.strip_suffix('\n') {
        Some(text) => (text, "␊"),
        None => (line, "␄"),
    };
    let kept = text.trim_end_matches([' ', '\r']).len();
    let mut shown = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        match c {
            ' ' if at >= kept => shown.push('·'),
            '\t' => shown.push('→'),
            '\r' => shown.push('␍'),
            c if c.is_control() || is_invisible(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown + end
}

/// Spaces that look like others, marks that have no width or turn the direction.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{ad}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{2060}'..='\u{2069}' | '\u{3000}' | '\u{feff}')
}

/// A long line around this character of it.
fn cut(line: &str, around: usize) -> String {
    if line.chars().count() <= SHOWN_CHARS {
        return line.to_owned();
    }
    let begin = around.saturating_sub(SHOWN_CHARS / 3);
    let part: String = line.chars().skip(begin).take(SHOWN_CHARS).collect();
    let before = if begin > 0 { "…" } else { "" };
    let after = if line.chars().count() > begin + SHOWN_CHARS { "…" } else { "" };
    format!("{before}{part}{after}")
}

fn of_bytes(expected: &[u8], found: &[u8]) -> Difference {
    let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    // The row before, that of the difference, and the one after.
    let first = (at / ROW_BYTES).saturating_sub(1);
    let mut lines = Vec::new();
    for row in first..=at / ROW_BYTES + 1 {
        let [old, new] = [expected, found].map(|bytes| bytes.chunks(ROW_BYTES).nth(row).unwrap_or_default());
        if old == new {
            lines.extend((!old.is_empty()).then(|| format!("  {}", dump(row, old))));
            continue;
        }
        lines.extend((!old.is_empty()).then(|| format!("- {}", dump(row, old))));
        lines.extend((!new.is_empty()).then(|| format!("+ {}", dump(row, new))));
    }
    if expected.len() != found.len() {
        lines.push(format!("  {} bytes were expected, and {} written", expected.len(), found.len()));
    }
    Difference { place: format!("at byte {at} (0x{at:x})"), lines }
}

/// A row of a hex dump.
fn dump(row: usize, bytes: &[u8]) -> String {
    let mut line = format!("{:08x} ", row * ROW_BYTES);
    for at in 0..ROW_BYTES {
        let gap = if at == ROW_BYTES / 2 { " " } else { "" };
        // Writing into a string does not fail.
        let _ = match bytes.get(at) {
            Some(byte) => write!(line, "{gap} {byte:02x}"),
            None => write!(line, "{gap}   "),
        };
    }
    let text = bytes.iter().map(|byte| if (b' '..0x7f).contains(byte) { char::from(*byte) } else { '.' });
    format!("{line}  |{}|", text.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(expected: &str, found: &str) -> (String, Vec<String>) {
        let difference = Difference::between(expected.as_bytes(), found.as_bytes()).unwrap();
        (difference.place, difference.lines)
    }

    #[test]
    fn the_same_has_no_difference() {
        assert_eq!(Difference::between(b"a\nb", b"a\nb"), None);
        assert_eq!(Difference::between(b"\0", b"\0"), None);
    }

    #[test]
    fn text_differs_in_lines_with_their_numbers() {
        let (place, shown) = lines("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nD\ne\nf\ng\n");
        assert_eq!(place, "in line 4");
        let wanted = ["     2 b␊", "     3 c␊", "-    4 d␊", "+    4 D␊", "     5 e␊", "     6 f␊", "+    7 g␊"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn what_cannot_be_seen_is_shown() {
        let (_, shown) = lines("a \tb \r\n", "a\u{a0}b");
        assert_eq!(shown, ["-    1 a →b·␍␊", "+    1 a\\u{a0}b␄"]);
    }

    #[test]
    fn long_lines_are_shown_where_they_differ() {
        let [a, b] = ["x", "y"].map(|c| format!("{}{c}{}\n", "-".repeat(500), "-".repeat(500)));
        let (_, shown) = lines(&a, &b);
        assert!(shown[0].contains('x') && shown[1].contains('y'), "{shown:?}");
        assert!(shown.iter().all(|line| line.chars().count() < 140), "{shown:?}");
    }

    #[test]
    fn a_large_difference_is_cut_and_counted() {
        let text = |c: char| (0..10_000).map(|n| format!("{c}{n}\n")).collect::<String>();
        let (place, shown) = lines(&text('a'), &text('b'));
        assert_eq!((place.as_str(), shown.len()), ("in line 1", SHOWN_LINES + 2));
        assert_eq!(shown[SHOWN_LINES], "       … and 3960 more lines of the difference");
        assert_eq!(shown[SHOWN_LINES + 1], "       … 8000 lines further on were not compared");
    }

    #[test]
    fn binary_data_are_dumped_around_the_first_difference() {
        let mut expected: Vec<u8> = (0..64).collect();
        let mut found = expected.clone();
        found[20] = 0xff;
        let difference = Difference::between(&expected, &found).unwrap();
        assert_eq!(difference.place, "at byte 20 (0x14)");
        assert_eq!(difference.lines.len(), 4);
        assert!(difference.lines[1].starts_with("- 00000010  10 11 12 13 14"), "{difference:?}");
        assert!(difference.lines[2].starts_with("+ 00000010  10 11 12 13 ff"), "{difference:?}");
        expected.truncate(16);
        let shorter = Difference::between(&expected, &found).unwrap();
        assert_eq!(shorter.lines.last().unwrap(), "  16 bytes were expected, and 64 written");
    }
}
