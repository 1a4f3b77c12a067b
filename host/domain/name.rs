//! Names of configured things. One rule for all: they show up in keys, logs and URLs.

use super::Invalid;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().into()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(/** Name of a share. */ ShareName, plain);
name!(/** Name of a customer's profile. */ CustomerName, plain);
name!(/** Name of a dataset. */ DatasetName, plain);
name!(/** Name of a plugin. */ PluginName, plain);
name!(/** A tag that customers share. */ GroupName, plain);
name!(/** Name of a table inside a dataset, as SQL sees it. */ TableName, identifier);

/// 1 to 63 of `a-z 0-9 - _`, beginning with a letter or digit.
fn plain(text: &str) -> Result<(), Invalid> {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    check(text, ok, |c| ok(c) || c == '-' || c == '_', "a-z, 0-9, '-' and '_', beginning with a letter or digit")
}

/// 1 to 63 of `a-z 0-9 _`, beginning with a letter: an SQL identifier that needs no quotes.
fn identifier(text: &str) -> Result<(), Invalid> {
    let letter = |c: char| c.is_ascii_lowercase();
    check(text, letter, |c| letter(c) || c.is_ascii_digit() || c == '_', "a-z, 0-9 and '_', beginning with a letter")
}

fn check(text: &str, first: impl Fn(char) -> bool, rest: impl Fn(char) -> bool, rule: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(format!("is empty; use 1 to 63 of {rule}")));
    }
    if text.len() > 63 {
        return Err(Invalid::new(format!("is {} bytes long; use at most 63", text.len())));
    }
    if !text.starts_with(first) || !text.chars().all(rest) {
        return Err(Invalid::new(format!("has a character that names cannot have; use {rule}")));
    }
    Ok(())
}
