use schemars::JsonSchema;
use serde::Deserialize;

// There is no compression among them: arrow-ipc writes the length before a
// compressed buffer in as many bytes as a pointer has, four in WebAssembly (seen
// in 59.3.2), and no reader understands that.

/// The options of the arrow format.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `file` has a footer that says where each record batch is, so that readers
    /// may map it into memory and skip; `stream` is read from front to end.
    pub format: Format,
}

/// The two formats of Arrow IPC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The file format, also called Feather version 2: `.arrow`.
    #[default]
    File,
    /// The streaming format: `.arrows`.
    Stream,
}

impl Format {
    /// What its objects are named, without the dot.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Format::File => "arrow",
            Format::Stream => "arrows",
        }
    }

    /// As registered at IANA.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Format::File => "application/vnd.apache.arrow.file",
            Format::Stream => "application/vnd.apache.arrow.stream",
        }
    }
}
