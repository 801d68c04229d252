//! `cron`: when a scheduled workflow runs, as POSIX writes it.
//!
//! Five fields: minute, hour, day of the month, month, day of the week. Follows GitHub's
//! [schedule](https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows#schedule).

/// GitHub's bound: a schedule runs at most so often, in minutes.
pub(crate) const SHORTEST_INTERVAL: u32 = 5;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A field: what it is called, its bounds, and the words for its numbers.
struct Field {
    what: &'static str,
    least: u32,
    most: u32,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { what: "minute", least: 0, most: 59, words: &[] },
    Field { what: "hour", least: 0, most: 23, words: &[] },
    Field { what: "day of the month", least: 1, most: 31, words: &[] },
    Field { what: "month", least: 1, most: 12, words: &MONTHS },
    Field { what: "day of the week", least: 0, most: 6, words: &DAYS },
];

/// When a scheduled workflow runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    /// What each field lets through, in order.
    fields: [Vec<u32>; FIELDS.len()],
    /// Whether both days are restricted: either of them counts then.
    either_day: bool,
}

/// A minute of the calendar, as some place counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minute {
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 1 to 31.
    pub day: u32,
    /// 1 to 12.
    pub month: u32,
    /// 0, which is Sunday, to 6.
    pub weekday: u32,
}

impl Cron {
    /// Reads a schedule.
    ///
    /// # Errors
    ///
    /// A sentence, where it is none.
    pub fn read(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let Ok(parts) = <[&str; FIELDS.len()]>::try_from(parts.as_slice()) else {
            return Err(format!("a schedule has five fields, this has {}", parts.len()));
        };
        let mut fields = <[Vec<u32>; FIELDS.len()]>::default();
        for ((values, field), part) in fields.iter_mut().zip(&FIELDS).zip(parts) {
            *values = field.values(part)?;
        }
        let is_restricted = |part: &str| !part.starts_with(['*', '?']);
        let [_, _, day, _, weekday] = parts;
        Ok(Self { fields, either_day: is_restricted(day) && is_restricted(weekday) })
    }

    /// Returns whether it is time at a minute.
    pub fn has(&self, at: Minute) -> bool {
        let [minutes, hours, days, months, weekdays] = &self.fields;
        let (day, weekday) = (days.contains(&at.day), weekdays.contains(&at.weekday));
        let is_day = if self.either_day { day || weekday } else { day && weekday };
        minutes.contains(&at.minute)
            && hours.contains(&at.hour)
            && months.contains(&at.month)
            && is_day
    }

    /// Returns the minutes of its hours, in order.
    pub(crate) fn minutes(&self) -> &[u32] {
        let [minutes, ..] = &self.fields;
        minutes
    }
}

/// Returns the shortest time between two runs within an hour and the next, in minutes.
pub(crate) fn interval(minutes: &[u32]) -> u32 {
    let between = minutes.windows(2).map(|pair| pair[1] - pair[0]);
    let around = match minutes {
        [first, .., last] => first + 60 - last,
        _ => 60,
    };
    between.chain([around]).min().unwrap_or(60)
}

impl Field {
    fn values(&self, text: &str) -> Result<Vec<u32>, String> {
        let mut values = Vec::new();
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(self.step(step)?)),
                None => (part, None),
            };
            let (from, to) = match range.split_once('-') {
                _ if matches!(range, "*" | "?") => (self.least, self.most),
                Some((from, to)) => (self.number(from)?, self.number(to)?),
                None => {
                    let from = self.number(range)?;
                    (from, if step.is_some() { self.most } else { from })
                }
            };
            if from > to {
                return Err(format!("the {} goes from {from} down to {to}", self.what));
            }
            values.extend((from..=to).step_by(step.unwrap_or(1)));
        }
        values.sort_unstable();
        values.dedup();
        Ok(values)
    }

    fn step(&self, text: &str) -> Result<usize, String> {
        let step = text.parse().ok().filter(|step| *step > 0);
        step.ok_or_else(|| format!("`{text}` is no step of the {}", self.what))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let named = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let named =
            named.and_then(|place| u32::try_from(place).ok()).map(|place| place + self.least);
        let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = named.or_else(|| text.parse().ok().filter(|_| is_plain));
        match number {
            Some(number) if (self.least..=self.most).contains(&number) => Ok(number),
            _ => Err(format!(
                "`{text}` is no {}: that is a number from {} to {}",
                self.what, self.least, self.most
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_schedule_is_refused_with_the_reason() {
        for (text, why) in [
            ("* * * *", "a schedule has five fields, this has 4"),
            ("60 * * * *", "`60` is no minute: that is a number from 0 to 59"),
            ("0 0 0 * *", "`0` is no day of the month: that is a number from 1 to 31"),
            ("0 0 * * 7", "`7` is no day of the week: that is a number from 0 to 6"),
            ("*/0 * * * *", "`0` is no step of the minute"),
            ("9-1 * * * *", "the minute goes from 9 down to 1"),
            ("@daily", "a schedule has five fields, this has 1"),
            (", * * * *", "`` is no minute: that is a number from 0 to 59"),
        ] {
            assert_eq!(Cron::read(text), Err(why.to_owned()), "{text}");
        }
    }

    #[test]
    fn the_shortest_interval_is_found() {
        for (text, shortest) in [
            ("*/5 * * * *", 5),
            ("*/4 * * * *", 4),
            ("* * * * *", 1),
            ("0 0 * JAN-MAR mon,fri", 60),
            ("1,58 * * * *", 3),
            ("5/20 * * * *", 20),
        ] {
            assert_eq!(interval(Cron::read(text).unwrap().minutes()), shortest, "{text}");
        }
    }

    #[test]
    fn a_minute_is_of_a_schedule_or_not() {
        // A Friday.
        let at = Minute { minute: 30, hour: 5, day: 13, month: 11, weekday: 5 };
        for (text, has) in [
            ("30 5 * * *", true),
            ("*/15 5,17 * * *", true),
            ("31 5 * * *", false),
            ("30 5 * NOV FRI", true),
            ("30 5 * * MON-THU", false),
            // Where both days are restricted, either counts.
            ("30 5 1 * FRI", true),
            ("30 5 13 * MON", true),
            ("30 5 1 * MON", false),
            ("30 5 */2 * MON", false),
        ] {
            assert_eq!(Cron::read(text).unwrap().has(at), has, "{text}");
        }
    }
}
