//! Values as text: what the text formats share.
//!
//! | type | text |
//! |---|---|
//! | integers | `-12` |
//! | floats | the shortest that reads back the same: `0.1`, `1.0`, `1e-7`; `NaN`, `Infinity`, `-Infinity` |
//! | decimals | exact, with all places of the scale: `12.50` |
//! | dates | `2024-02-29`; years before 0 and after 9999 signed: `+10000-01-01` |
//! | times | `23:59:59.999`, as many places as the unit has |
//! | timestamps | `2024-02-29T23:59:59.999999`; in UTC with `Z` when the type has a zone |
//! | durations | `PT26H3M4.5S`, `-PT0.001S` |
//! | intervals | `P1Y2M`, `P3DT-0.5S`: each part has its own sign |
//! | binary | base64 or hex |

mod block;
mod buffer;
mod bytes;
mod cursor;
mod lanes;
mod number;
mod pattern;
mod scalar;
mod scan;
mod temporal;

pub use block::{Around, Block, Plain};
pub use buffer::Buffer;
pub use bytes::BinaryText;
pub use pattern::{DateFormat, Pattern, PatternKind, TimeFormat, TimestampFormat};
pub use scalar::Scalar;
pub use scan::Special;
