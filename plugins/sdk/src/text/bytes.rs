//! Binary data as text.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Buffer;

/// How binary data is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BinaryText {
    /// RFC 4648 base64, with padding.
    #[default]
    Base64,
    /// Two lowercase hexadecimal digits a byte.
    Hex,
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX: &[u8; 16] = b"0123456789abcdef";

impl Buffer {
    /// Appends binary data as text.
    pub fn binary(&mut self, bytes: &[u8], text: BinaryText) {
        match text {
            BinaryText::Base64 => self.base64(bytes),
            BinaryText::Hex => {
                for byte in bytes {
                    let [high, low] = [byte >> 4, byte & 15].map(|half| HEX[usize::from(half)]);
                    self.word(u64::from(high) | u64::from(low) << 8, 2);
                }
            }
        }
    }

    fn base64(&mut self, bytes: &[u8]) {
        let letter = |group: u32, shift: u32| u64::from(BASE64[(group >> shift & 63) as usize]);
        let (groups, tail) = bytes.as_chunks::<3>();
        for &[a, b, c] in groups {
            let group = u32::from_be_bytes([0, a, b, c]);
            let letters = letter(group, 18) | letter(group, 12) << 8 | letter(group, 6) << 16 | letter(group, 0) << 24;
            self.word(letters, 4);
        }
        let pad = u64::from(b'=');
        match *tail {
            [a] => {
                let group = u32::from_be_bytes([0, a, 0, 0]);
                self.word(letter(group, 18) | letter(group, 12) << 8 | pad << 16 | pad << 24, 4);
            }
            [a, b] => {
                let group = u32::from_be_bytes([0, a, b, 0]);
                self.word(letter(group, 18) | letter(group, 12) << 8 | letter(group, 6) << 16 | pad << 24, 4);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        let cases = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, expected) in cases.iter().enumerate() {
            let mut buffer = Buffer::new();
            buffer.binary(&b"foobar"[..length], BinaryText::Base64);
            assert_eq!(buffer.as_bytes(), expected.as_bytes());
        }
        let mut buffer = Buffer::new();
        buffer.binary(&[0, 0x9f, 0xff], BinaryText::Hex);
        assert_eq!(buffer.as_bytes(), b"009fff");
    }
}
