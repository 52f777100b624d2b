//! Seconds since 1970 as the chip's ten time bytes, and back.

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// A moment as the time bytes tell it. Parsed from guest bytes the fields may be out of range;
/// [`Moment::seconds`] carries them over, as the chip's own counters would sooner or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
}

impl Moment {
    /// The moment `seconds` after 1970-01-01 00:00:00.
    pub(super) fn at(seconds: i64) -> Self {
        let (year, month, day) = civil(seconds.div_euclid(DAY));
        let second = seconds.rem_euclid(DAY);
        Self {
            year,
            month,
            day,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    /// Seconds since 1970-01-01 00:00:00.
    pub(super) fn seconds(self) -> i64 {
        let month = self.month - 1;
        let year = self.year + month.div_euclid(12);
        let days = days_before(year, month.rem_euclid(12) + 1) + self.day - 1;
        days * DAY + self.hour * 3600 + self.minute * 60 + self.second
    }
}

/// The day of the week of a moment, 1 (Sunday) to 7.
pub(super) fn weekday(seconds: i64) -> i64 {
    // 1970-01-01 was a Thursday.
    (seconds.div_euclid(DAY) + 4).rem_euclid(7) + 1
}

/// Days from 1970-01-01 to the first of `month`. Years are counted from March, so that a leap day ends one.
fn days_before(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let since_march = (month + 9) % 12;
    let of_year = (153 * since_march + 2) / 5;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719 468 days lie between 0000-03-01 and 1970-01-01.
    year * 365 + leap_days + of_year - 719_468
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    // The estimate by the mean year is at most one off.
    let guess = 1970
        + (days.div_euclid(DAYS_OF_400_YEARS)) * 400
        + days.rem_euclid(DAYS_OF_400_YEARS) * 400 / DAYS_OF_400_YEARS;
    let year = match () {
        () if days < days_before(guess, 1) => guess - 1,
        () if days >= days_before(guess + 1, 1) => guess + 1,
        () => guess,
    };
    let month = (1..=12)
        .rev()
        .find(|&month| days_before(year, month) <= days)
        .unwrap_or(1);
    (year, month, days - days_before(year, month) + 1)
}

/// How the chip writes numbers: register B, bits DM and 24/12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) binary: bool,
    pub(super) hours24: bool,
}

impl Format {
    /// PM in the hours byte of the 12-hour form.
    const PM: u8 = 0x80;

    /// A number below 100 as a time byte.
    pub(super) fn byte(self, n: i64) -> u8 {
        let n = u8::try_from(n).unwrap_or(0);
        if self.binary {
            n
        } else {
            (n / 10) << 4 | (n % 10)
        }
    }

    /// A time byte as a number. A BCD digit above 9 keeps its weight.
    pub(super) fn number(self, byte: u8) -> i64 {
        i64::from(if self.binary {
            byte
        } else {
            (byte >> 4) * 10 + (byte & 15)
        })
    }

    /// An hour (0..=23) as the hours byte.
    pub(super) fn hour_byte(self, hour: i64) -> u8 {
        if self.hours24 {
            return self.byte(hour);
        }
        let pm = if hour >= 12 { Self::PM } else { 0 };
        self.byte((hour + 11) % 12 + 1) | pm
    }

    /// The hours byte as an hour.
    pub(super) fn hour(self, byte: u8) -> i64 {
        if self.hours24 {
            return self.number(byte);
        }
        let afternoon = if byte & Self::PM != 0 { 12 } else { 0 };
        self.number(byte & !Self::PM) % 12 + afternoon
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days() {
        let day = |year, month, day| {
            let midnight = Moment {
                year,
                month,
                day,
                hour: 0,
                minute: 0,
                second: 0,
            };
            midnight.seconds() / DAY
        };
        assert_eq!(day(1970, 1, 1), 0);
        assert_eq!(day(2000, 3, 1), 11_017);
        assert_eq!(day(2000, 2, 29), 11_016);
        assert_eq!(day(2100, 3, 1) - day(2100, 2, 28), 1);
        assert_eq!(day(2024, 3, 1) - day(2024, 2, 28), 2);
        assert_eq!(weekday(day(2020, 3, 4) * DAY), 4);
    }

    proptest! {
        #[test]
        fn a_moment_and_its_seconds_are_inverse(seconds in -(1i64 << 40)..1 << 40) {
            let moment = Moment::at(seconds);
            prop_assert!((1..=12).contains(&moment.month) && (1..=31).contains(&moment.day));
            prop_assert_eq!(moment.seconds(), seconds);
            let next = Moment::at(seconds + DAY);
            let first = next.day == 1 && moment.day >= 28;
            prop_assert!(next.day == moment.day + 1 || first);
            prop_assert_eq!(weekday(seconds + DAY), weekday(seconds) % 7 + 1);
        }

        #[test]
        fn hours_and_bytes_are_inverse(hour in 0i64..24, binary: bool, hours24: bool) {
            let format = Format { binary, hours24 };
            prop_assert_eq!(format.hour(format.hour_byte(hour)), hour);
        }
    }
}
