//! Whether the time of a scheduled workflow has come.

use muster_workflow::cron::{Cron, Minute};

/// What a minute has of milliseconds.
const MINUTE_MS: i64 = 60_000;
/// A time that passed while nobody looked still counts for so long, in minutes.
const LATE: i64 = 24 * 60;

/// Returns the last minute of a schedule after one moment and up to another, both in milliseconds since 1970: however many
/// there were, it runs once. What is more than a day ago does not count. `calendar` says which minute of the calendar a
/// moment is in where the schedule is meant: one that is skipped there when clocks are put forward has no time, one
/// that comes twice has two.
pub fn last_due(
    cron: &Cron,
    after_ms: i64,
    until_ms: i64,
    calendar: impl Fn(i64) -> Minute,
) -> Option<i64> {
    let last = until_ms.div_euclid(MINUTE_MS);
    let first = after_ms.div_euclid(MINUTE_MS).saturating_add(1).max(last - LATE + 1);
    let moments = (first..=last).rev().map(|minute| minute * MINUTE_MS);
    moments.into_iter().find(|moment| cron.has(calendar(*moment)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A calendar in which each day is the first of January, a Monday.
    fn calendar(moment: i64) -> Minute {
        let minute = u32::try_from(moment / MINUTE_MS % (24 * 60)).unwrap();
        Minute { minute: minute % 60, hour: minute / 60, day: 1, month: 1, weekday: 1 }
    }

    #[test]
    fn what_has_passed_runs_once_and_nothing_runs_twice() {
        let due = |text: &str, after: i64, until: i64| {
            let cron = Cron::read(text).unwrap();
            let due = last_due(&cron, after * MINUTE_MS, until * MINUTE_MS + 59_999, calendar);
            due.map(|moment| moment / MINUTE_MS)
        };
        let day = 24 * 60;
        assert_eq!(due("*/5 * * * *", 10, 14), None, "the one at 10 was seen");
        assert_eq!(due("*/5 * * * *", 10, 15), Some(15));
        assert_eq!(due("*/5 * * * *", 10, 33), Some(30), "several are one");
        assert_eq!(due("0 0 * * *", 1, day), Some(day));
        assert_eq!(due("0 0 * * *", 1, 2 * day - 1), Some(day), "it is a day ago, and not more");
        assert_eq!(due("0 1 * * *", 1, 2 * day - 1), Some(day + 60));
        assert_eq!(due("30 0 2 * *", 1, day), None);
        assert_eq!(due("*/5 * * * *", 100, 50), None, "the clock was put back");
        assert_eq!(due("* * * * *", 7, 7), None);
    }
}
