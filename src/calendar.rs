//! `-rtc base=`: dates to seconds, in the proleptic Gregorian calendar.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::CliError;

const DAY: i64 = 86_400;

/// The RTC's time of day at the start of the run, in seconds since 1970 as the guest sees them.
///
/// # Errors
/// If the option's value is no base.
pub fn rtc_base(option: Option<&str>) -> Result<i64, CliError> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64);
    let Some(given) = option else { return Ok(now) };
    let base = given.strip_prefix("base=").unwrap_or(given);
    match base {
        "utc" => Ok(now),
        _ => parse(base).ok_or_else(|| CliError::Value {
            option: "-rtc",
            given: given.to_string(),
            expected: "base=utc or base=YYYY-MM-DD[THH:MM:SS]",
            nearest: None,
        }),
    }
}

/// Seconds since 1970 of `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM:SS`.
fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let numbers = |text: &str, by| -> Option<[i64; 3]> {
        let parts: Option<Vec<i64>> = text.split(by).map(|part| part.parse().ok()).collect();
        parts?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    let months: i64 = (1..month).map(|m| days_in(year, m)).sum();
    let years: i64 = (1970..year).map(|y| 365 + i64::from(is_leap(y))).sum();
    valid.then_some((years + months + day - 1) * DAY + hour * 3600 + minute * 60 + second)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn dates_are_seconds() {
        assert_eq!(parse("1970-01-01"), Some(0));
        assert_eq!(parse("2026-01-01T00:00:00"), Some(1_767_225_600));
        assert_eq!(parse("2000-02-29T23:59:59"), Some(951_868_799));
        assert_eq!(parse("2001-02-29"), None);
        assert_eq!(parse("2001-02"), None);
        assert_eq!(parse("2001-02-01T25:00:00"), None);
    }
}
