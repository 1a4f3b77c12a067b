//! Where an object's bytes lie below its bucket's directory.
//!
//! A plain key is its own path, so that a person finds the file. Whatever a file system could
//! misread is written as `%XX`, and since a literal `%` is too, no two keys share a path.

use std::fmt::Write as _;
use std::path::PathBuf;

use s3s::crypto::{Checksum as _, Sha256};

use crate::domain::hex;

/// Longest file name of the common file systems, in bytes.
const SEGMENT_BYTES_MAX: usize = 255;
/// Leaves room for the base directory within `PATH_MAX`.
const PATH_BYTES_MAX: usize = 2048;

/// The path of `key`, relative and without any `.` or `..`.
pub(super) fn path_of(key: &str) -> PathBuf {
    let segments: Vec<String> = key.split('/').map(encode).collect();
    let length: usize = segments.iter().map(|segment| segment.len() + 1).sum();
    if length > PATH_BYTES_MAX || segments.iter().any(|segment| segment.len() > SEGMENT_BYTES_MAX) {
        return hashed_path_of(key);
    }
    segments.into_iter().collect()
}

/// A path that needs no directory, for a key whose [`path_of`] is taken: `a` may be a file while
/// `a/b` wants it to be a folder. The name cannot be another key's, as `%k` is never an encoding.
pub(super) fn hashed_path_of(key: &str) -> PathBuf {
    PathBuf::from(format!("%key-{}", hex(&Sha256::checksum(key.as_bytes()))))
}

fn encode(segment: &str) -> String {
    match segment {
        "" => return "%".to_owned(),
        "." => return "%2E".to_owned(),
        ".." => return "%2E%2E".to_owned(),
        _ => {}
    }
    segment.chars().fold(String::with_capacity(segment.len()), |mut text, c| {
        if c.is_control() || "%\\:*?\"<>|".contains(c) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "%{byte:02X}");
            }
        } else {
            text.push(c);
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_keys_are_their_own_paths() {
        assert_eq!(path_of("exports/2026-01-01/fluege ü.csv"), Path::new("exports/2026-01-01/fluege ü.csv"));
        assert_eq!(path_of("../a//b/"), Path::new("%2E%2E/a/%/b/%"));
        assert_eq!(path_of("/etc/passwd"), Path::new("%/etc/passwd"));
        assert_eq!(path_of("a\0b%"), Path::new("a%00b%25"));
        assert_eq!(path_of(&"x".repeat(300)), hashed_path_of(&"x".repeat(300)));
    }

    fn key() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just(String::new()),
            Just("%".to_owned()),
            Just("%2E".to_owned()),
            Just("\0".to_owned()),
            Just("\\..\\".to_owned()),
            Just("x".repeat(300)),
            any::<String>(),
            "[a-c]{1,2}",
        ];
        proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.join("/"))
    }

    proptest! {
        #[test]
        fn a_path_stays_inside(key in key()) {
            for path in [path_of(&key), hashed_path_of(&key)] {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
                prop_assert!(path.components().count() >= 1);
                prop_assert!(path.components().all(|part| part.as_os_str().len() <= SEGMENT_BYTES_MAX));
                prop_assert!(!path.to_string_lossy().contains('\0'));
            }
        }

        #[test]
        fn no_two_keys_share_a_path(a in key(), b in key()) {
            prop_assume!(a != b);
            prop_assert_ne!(path_of(&a), path_of(&b));
        }
    }
}
