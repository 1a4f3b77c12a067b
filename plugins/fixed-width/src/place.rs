//! A text in its place.

use consign_sdk::text::Buffer;

use crate::options::{Controls, Encoding};

/// How wide a place is and how a text is put into it.
#[derive(Debug, Clone)]
pub(crate) struct Fit {
    pub width: usize,
    pub right: bool,
    pub pad: u8,
    /// A text that is too wide is cut, not refused.
    pub cut: bool,
    /// What to do about a text that is refused.
    pub remedy: &'static str,
    pub encoding: Encoding,
    pub controls: Controls,
}

/// Why a text cannot be in its place, to be read behind the column's name.
#[derive(Debug)]
pub(crate) struct Misfit(pub String);

impl Fit {
    /// Appends a text of the user's.
    pub fn text(&self, text: &[u8], out: &mut Buffer) -> Result<(), Misfit> {
        // Most texts are of ASCII and have no control characters.
        if text.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return self.plain(text, out);
        }
        let characters = String::from_utf8_lossy(text);
        let mut encoded = Vec::with_capacity(text.len());
        let mut count = 0;
        for character in characters.chars() {
            if count == self.width && self.cut {
                break;
            }
            self.encode(character, &mut encoded)?;
            count += 1;
        }
        self.padded(&encoded, count, text, out)
    }

    /// Appends a text of printable ASCII.
    #[inline]
    pub fn plain(&self, text: &[u8], out: &mut Buffer) -> Result<(), Misfit> {
        let kept = if self.cut { text.get(..self.width).unwrap_or(text) } else { text };
        self.padded(kept, kept.len(), text, out)
    }

    #[inline]
    fn padded(&self, encoded: &[u8], count: usize, text: &[u8], out: &mut Buffer) -> Result<(), Misfit> {
        let Some(missing) = self.width.checked_sub(count) else {
            return Err(self.too_wide(text, count));
        };
        if !self.right {
            out.extend(encoded);
            fill(self.pad, missing, out);
            return Ok(());
        }
        // -0012, not 00-12.
        let sign = usize::from(self.pad == b'0' && matches!(encoded, [b'-' | b'+', b'0'..=b'9', ..]));
        let (sign, rest) = encoded.split_at(sign);
        out.extend(sign);
        fill(self.pad, missing, out);
        out.extend(rest);
        Ok(())
    }

    fn encode(&self, character: char, encoded: &mut Vec<u8>) -> Result<(), Misfit> {
        if character.is_control() {
            return match self.controls {
                Controls::Space => {
                    encoded.push(b' ');
                    Ok(())
                }
                Controls::Error => Err(Misfit(format!(
                    "has the control character U+{:04X}: replace it in the query, or set options.control_characters to \
                     \"space\"",
                    u32::from(character)
                ))),
            };
        }
        let unknown = |encoding| {
            Misfit(format!(
                "has `{character}`, which {encoding} does not have: set options.encoding, or replace it in the query"
            ))
        };
        match self.encoding {
            Encoding::Ascii if character.is_ascii() => encoded.push(character as u8),
            Encoding::Ascii => return Err(unknown("ASCII")),
            Encoding::Latin1 => encoded.push(u8::try_from(character).map_err(|_| unknown("ISO 8859-1"))?),
            Encoding::Utf8 => encoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        Ok(())
    }

    fn too_wide(&self, text: &[u8], count: usize) -> Misfit {
        const SHOWN: usize = 40;
        let text = String::from_utf8_lossy(text);
        let rest = if text.chars().count() > SHOWN { "…" } else { "" };
        let shown: String = text.chars().take(SHOWN).collect();
        let (shown, Fit { width, remedy, .. }) = (shown.escape_debug(), self);
        Misfit(format!("is `{shown}{rest}`, which has {count} characters, and its place has {width}: {remedy}"))
    }
}

fn fill(pad: u8, mut count: usize, out: &mut Buffer) {
    let pads = [pad; 64];
    while count > 0 {
        let now = count.min(pads.len());
        out.extend(&pads[..now]);
        count -= now;
    }
}
