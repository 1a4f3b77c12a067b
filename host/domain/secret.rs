//! Values that must not be seen.

/// A secret text. Has no `Display`, `Debug` or `Serialize`, so that it cannot
/// reach a log or a message by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}
