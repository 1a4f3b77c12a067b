//! When work is due. Two parts that know nothing of each other:
//!
//! - [`Planner`]: from calendars, cursors and the time to the slots that are due;
//! - [`Ticker`]: wakes the planner, and is trusted with nothing else.
//!
//! When a share fires is the [`Calendar`]'s business.

mod planner;
mod ticker;

pub use crate::calendar::Calendar;
pub use planner::{Due, Plan, Planner, Recurring};
pub use ticker::Ticker;

/// Why there is no clock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("cannot start the clock ({why}); restart consign")]
    Clock { why: String },
}
