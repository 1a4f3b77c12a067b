//! Which units of an instant a strftime format tells.

use std::ops::BitOr;

use chrono::format::{Fixed, Item, Numeric, StrftimeItems};

/// A set of units.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Units(u16);

const YEAR: Units = Units(1);
const ISO_YEAR: Units = Units(1 << 1);
const MONTH: Units = Units(1 << 2);
const DAY_OF_MONTH: Units = Units(1 << 3);
const DAY_OF_YEAR: Units = Units(1 << 4);
const ISO_WEEK: Units = Units(1 << 5);
const WEEKDAY: Units = Units(1 << 6);
const HOUR: Units = Units(1 << 7);
const HALF_HOUR: Units = Units(1 << 8);
const HALF_DAY: Units = Units(1 << 9);
const MINUTE: Units = Units(1 << 10);
const SECOND: Units = Units(1 << 11);
const ALL: Units = Units(u16::MAX);

impl Units {
    pub(super) const NONE: Units = Units(0);

    /// Of a format that has been found to be one.
    pub(super) fn of(format: &str) -> Self {
        StrftimeItems::new(format).map(|item| of_item(&item)).fold(Self::NONE, BitOr::bitor)
    }

    /// Without it, what is written comes again the next year.
    pub(super) fn has_year(self) -> bool {
        self.has(YEAR) || self.has(ISO_YEAR)
    }

    /// No two seconds are written alike.
    pub(super) fn is_whole(self) -> bool {
        let day = self.has(YEAR | MONTH | DAY_OF_MONTH)
            || self.has(YEAR | DAY_OF_YEAR)
            || self.has(ISO_YEAR | ISO_WEEK | WEEKDAY);
        day && (self.has(HOUR) || self.has(HALF_HOUR | HALF_DAY)) && self.has(MINUTE | SECOND)
    }

    fn has(self, all: Units) -> bool {
        self.0 & all.0 == all.0
    }
}

impl BitOr for Units {
    type Output = Units;

    fn bitor(self, other: Units) -> Units {
        Units(self.0 | other.0)
    }
}

fn of_item(item: &Item<'_>) -> Units {
    match item {
        Item::Numeric(number, _) => match number {
            // Two digits of the year come again after a century.
            Numeric::Year | Numeric::YearMod100 => YEAR,
            Numeric::IsoYear | Numeric::IsoYearMod100 => ISO_YEAR,
            Numeric::Month => MONTH,
            Numeric::Day => DAY_OF_MONTH,
            Numeric::Ordinal => DAY_OF_YEAR,
            Numeric::IsoWeek => ISO_WEEK,
            Numeric::NumDaysFromSun | Numeric::WeekdayFromMon => WEEKDAY,
            Numeric::Hour => HOUR,
            Numeric::Hour12 => HALF_HOUR,
            Numeric::Minute => MINUTE,
            Numeric::Second => SECOND,
            Numeric::Timestamp => ALL,
            _ => Units::NONE,
        },
        Item::Fixed(fixed) => match fixed {
            Fixed::ShortMonthName | Fixed::LongMonthName => MONTH,
            Fixed::ShortWeekdayName | Fixed::LongWeekdayName => WEEKDAY,
            Fixed::LowerAmPm | Fixed::UpperAmPm => HALF_DAY,
            Fixed::RFC2822 | Fixed::RFC3339 => ALL,
            _ => Units::NONE,
        },
        _ => Units::NONE,
    }
}
