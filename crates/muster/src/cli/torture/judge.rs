//! What was told against what is there: nothing lost, nothing doubled, nothing wrong.

use std::collections::BTreeMap;
use std::fmt;

use muster_core::report::ROLL_UP;
use serde_json::{Value, json};

use super::ground::{JOB, LINES, Push};
use super::host::Shown;
use super::text;

/// So many losses are shown, of all.
const SHOWN: usize = 20;

/// What was done, and what is there afterwards.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) kills: usize,
    pub(super) supervisors_killed: usize,
    /// How often the disk has failed.
    pub(super) disk_faults: usize,
    /// Why it has not.
    pub(super) disk_left: Option<&'static str>,
    /// After how many milliseconds the server was ready, at each start.
    pub(super) ready_ms: Vec<f64>,
    /// What the server was told of.
    pub(super) told: Vec<Push>,
    /// In how many webhooks.
    pub(super) attempts: usize,
    /// What it answered for on a failing disk, and had not.
    pub(super) answered_and_lost: Vec<String>,
    pub(super) deliveries: Vec<Value>,
    pub(super) runs: Vec<Value>,
    pub(super) logs: Vec<Log>,
    pub(super) shown: Shown,
    /// How often a status was set.
    pub(super) writes: usize,
    /// How often the code host was called that had asked to wait.
    pub(super) impatient: usize,
    /// Processes and mounts of jobs that are over.
    pub(super) left_over: Vec<String>,
}

/// The log of a job.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) run: Value,
    pub(super) text: String,
}

/// What is not as it should be with one kind of thing.
#[derive(Debug, Default)]
struct Count {
    /// How many there are.
    there: usize,
    lost: Vec<String>,
    doubled: Vec<String>,
    wrong: Vec<String>,
}

/// What a torture came to.
#[derive(Debug)]
pub(super) struct Report {
    seed: u64,
    facts: Facts,
    webhooks: Count,
    runs: Count,
    verdicts: Count,
    lines: Count,
}

impl Count {
    /// Counts the things that there are against those that there should be, one of each.
    fn of<'n>(wanted: impl Iterator<Item = &'n str>, there: impl Iterator<Item = &'n str>) -> Self {
        let mut times: BTreeMap<&str, usize> = wanted.map(|name| (name, 0)).collect();
        let mut count = Self::default();
        for name in there {
            count.there += 1;
            match times.get_mut(name) {
                Some(times) => *times += 1,
                None => count.wrong.push(format!("{name}: nobody told of it")),
            }
        }
        for (name, times) in times {
            match times {
                0 => count.lost.push(name.to_owned()),
                1 => {}
                _ => count.doubled.push(format!("{name}: {times} times")),
            }
        }
        count
    }

    fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.wrong.is_empty()
    }
}

impl Report {
    /// Judges what is there.
    pub(super) fn of(seed: u64, facts: Facts) -> Self {
        let told = || facts.told.iter();
        let guids = facts.deliveries.iter().map(|row| text(row, "guid"));
        let mut webhooks = Count::of(told().map(|push| push.delivery.as_str()), guids);
        webhooks.lost.extend(facts.answered_and_lost.iter().cloned());
        for row in facts.deliveries.iter().filter(|row| row["outcome"] != "accepted") {
            let (outcome, why) = (text(row, "outcome"), text(row, "reason"));
            webhooks.wrong.push(format!("{}: {outcome}: {why}", text(row, "guid")));
        }
        let shas = facts.runs.iter().map(|run| text(run, "sha"));
        let mut runs = Count::of(told().map(|push| push.sha.as_str()), shas);
        for run in facts.runs.iter().filter(|run| run["conclusion"] != "success") {
            runs.wrong.push(format!("run {}: {}", run["id"], run["conclusion"]));
        }
        let (verdicts, lines) = (verdicts(&facts), lines(&facts.logs));
        Self { seed, facts, webhooks, runs, verdicts, lines }
    }

    /// Returns whether all that was promised was kept.
    pub(super) fn held(&self) -> bool {
        self.counts().iter().all(|(_, count, _)| count.is_clean())
            && self.facts.left_over.is_empty()
            && self.facts.impatient == 0
    }

    /// Names each count, with what is to be said of it.
    fn counts(&self) -> [(&'static str, &Count, String); 4] {
        let Facts { attempts, writes, .. } = self.facts;
        [
            ("webhooks", &self.webhooks, format!("in {attempts} attempts")),
            ("runs", &self.runs, String::new()),
            ("verdicts", &self.verdicts, format!("after {writes} writes")),
            ("log lines", &self.lines, String::new()),
        ]
    }

    /// Returns all complaints.
    fn complaints(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (name, count, _) in self.counts() {
            for (what, list) in
                [("lost", &count.lost), ("doubled", &count.doubled), ("wrong", &count.wrong)]
            {
                all.extend(list.iter().map(|one| format!("{name}: {what}: {one}")));
            }
        }
        all.extend(self.facts.left_over.iter().map(|one| format!("left over: {one}")));
        if self.facts.impatient > 0 {
            let times = self.facts.impatient;
            all.push(format!("the code host had asked to wait, and was called {times} times"));
        }
        all
    }

    /// Returns the median and the longest time until a server was ready, in milliseconds.
    fn ready(&self) -> (f64, f64) {
        let mut all = self.facts.ready_ms.clone();
        all.sort_by(f64::total_cmp);
        let at = |place: usize| all.get(place).copied().unwrap_or_default();
        (at(all.len() / 2), at(all.len().saturating_sub(1)))
    }

    /// Returns it as JSON.
    pub(super) fn json(&self) -> Value {
        let facts = &self.facts;
        let (median, longest) = self.ready();
        let mut all = json!({
            "seed": self.seed,
            "held": self.held(),
            "kills": facts.kills,
            "supervisors_killed": facts.supervisors_killed,
            "disk_faults": facts.disk_faults,
            "disk_not_tried": facts.disk_left,
            "ready_ms": { "median": median.round(), "longest": longest.round() },
            "left_over": facts.left_over.len(),
            "complaints": self.complaints(),
        });
        for (name, count, _) in self.counts() {
            all[name.replace(' ', "_")] = json!({
                "there": count.there,
                "lost": count.lost.len(),
                "doubled": count.doubled.len(),
                "wrong": count.wrong.len(),
            });
        }
        all
    }
}

/// Counts the contexts of each commit.
fn verdicts(facts: &Facts) -> Count {
    let mut count = Count::default();
    for push in &facts.told {
        let shown = facts.shown.get(&push.sha);
        for context in [ROLL_UP, JOB] {
            let about = format!("{context} of {}", push.sha);
            match shown.and_then(|shown| shown.get(context)).map(String::as_str) {
                Some("success") => count.there += 1,
                Some("pending") | None => count.lost.push(about),
                Some(state) => count.wrong.push(format!("{about}: {state}")),
            }
        }
        for context in shown.into_iter().flatten().map(|(context, _)| context) {
            if context != ROLL_UP && context != JOB {
                count.wrong.push(format!("{context} of {}: there is no such job", push.sha));
            }
        }
    }
    count
}

/// Counts the lines of each log, which are to be there once and in order.
fn lines(logs: &[Log]) -> Count {
    let mut count = Count::default();
    for log in logs {
        let found = log.text.lines().filter_map(|line| line.strip_prefix("line "));
        let found: Vec<usize> = found.filter_map(|number| number.parse().ok()).collect();
        count.there += found.len();
        let mut times = vec![0_usize; LINES + 1];
        for number in &found {
            match times.get_mut(*number) {
                Some(times) => *times += 1,
                None => count.wrong.push(format!("run {}: line {number}", log.run)),
            }
        }
        for (number, times) in times.iter().enumerate().skip(1) {
            match times {
                0 => count.lost.push(format!("run {}: line {number}", log.run)),
                1 => {}
                _ => count.doubled.push(format!("run {}: line {number}", log.run)),
            }
        }
        if !found.is_sorted() {
            count.wrong.push(format!("run {}: its lines are out of order", log.run));
        }
    }
    count
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        writeln!(
            out,
            "killed: the server {}×, supervisors {}× (seed {})",
            facts.kills, facts.supervisors_killed, self.seed
        )?;
        match facts.disk_left {
            None => writeln!(out, "failed: the disk {}×", facts.disk_faults)?,
            Some(why) => writeln!(out, "not tried: a failing disk ({why})")?,
        }
        for (name, count, more) in self.counts() {
            let (lost, doubled, wrong) = (count.lost.len(), count.doubled.len(), count.wrong.len());
            let numbers = format!("lost {lost}   doubled {doubled}   wrong {wrong}");
            let line = format!("  {name:<10} {:>7}   {numbers:<34} {more}", count.there);
            writeln!(out, "{}", line.trim_end())?;
        }
        let (median, longest) = self.ready();
        writeln!(out, "  ready again after {median:.0} ms (median), {longest:.0} ms (longest)")?;
        writeln!(out, "  left over of jobs: {}", facts.left_over.len())?;
        let complaints = self.complaints();
        for complaint in complaints.iter().take(SHOWN) {
            writeln!(out, "! {complaint}")?;
        }
        if complaints.len() > SHOWN {
            writeln!(out, "! and {} more", complaints.len() - SHOWN)?;
        }
        out.write_str(if self.held() { "all held" } else { "NOT all held" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(number: usize) -> Push {
        Push { delivery: format!("d{number}"), sha: format!("s{number}"), body: String::new() }
    }

    fn facts(pushes: usize) -> Facts {
        let told: Vec<Push> = (0..pushes).map(push).collect();
        let text: String = (1..=LINES).map(|line| format!("line {line}\n")).collect();
        let success = || [ROLL_UP, JOB].map(|name| (name.to_owned(), "success".to_owned()));
        Facts {
            deliveries: told
                .iter()
                .map(|push| json!({ "guid": push.delivery, "outcome": "accepted" }))
                .collect(),
            runs: told
                .iter()
                .enumerate()
                .map(|(id, push)| json!({ "id": id, "sha": push.sha, "conclusion": "success" }))
                .collect(),
            logs: told.iter().map(|_| Log { run: json!(1), text: text.clone() }).collect(),
            shown: told.iter().map(|push| (push.sha.clone(), success().into())).collect(),
            told,
            ..Facts::default()
        }
    }

    /// Returns what is complained of once all is well but for `change`.
    fn complaints(change: impl FnOnce(&mut Facts)) -> String {
        let mut facts = facts(2);
        change(&mut facts);
        let report = Report::of(1, facts);
        assert_eq!(report.held(), report.complaints().is_empty());
        report.complaints().join("; ")
    }

    fn shows(sha: &'static str, state: &'static str) -> impl FnOnce(&mut Facts) {
        move |facts| {
            let shown = facts.shown.get_mut(sha).unwrap();
            shown.insert(JOB.to_owned(), state.to_owned());
        }
    }

    fn reads(lines: &'static str, instead: &'static str) -> impl FnOnce(&mut Facts) {
        move |facts| {
            let text = &mut facts.logs[0].text;
            *text = text.replace(lines, instead);
        }
    }

    #[test]
    fn each_loss_is_told() {
        assert_eq!(complaints(|_| {}), "");
        let lost = complaints(|facts| drop(facts.deliveries.pop()));
        assert_eq!(lost, "webhooks: lost: d1");
        let doubled = complaints(|facts| facts.deliveries.push(facts.deliveries[0].clone()));
        assert_eq!(doubled, "webhooks: doubled: d0: 2 times");
        let dead = json!({ "guid": "d0", "outcome": "dead", "reason": "why" });
        let wrong = complaints(|facts| facts.deliveries[0] = dead);
        assert_eq!(wrong, "webhooks: wrong: d0: dead: why");
        let lost = complaints(|facts| facts.answered_and_lost.push("d7 (EIO)".to_owned()));
        assert_eq!(lost, "webhooks: lost: d7 (EIO)");
        assert_eq!(complaints(|facts| drop(facts.runs.pop())), "runs: lost: s1");
        let doubled = complaints(|facts| facts.runs.push(facts.runs[0].clone()));
        assert_eq!(doubled, "runs: doubled: s0: 2 times");
        let lost = complaints(|facts| drop(facts.shown.remove("s0")));
        assert_eq!(lost, "verdicts: lost: muster of s0; verdicts: lost: count of s0");
        assert_eq!(complaints(shows("s1", "pending")), "verdicts: lost: count of s1");
        assert_eq!(complaints(shows("s1", "error")), "verdicts: wrong: count of s1: error");
        assert_eq!(complaints(reads("line 7\n", "")), "log lines: lost: run 1: line 7");
        let doubled = complaints(reads("line 7\n", "line 7\nline 7\n"));
        assert_eq!(doubled, "log lines: doubled: run 1: line 7");
        let mixed = complaints(reads("line 7\nline 8\n", "line 8\nline 7\n"));
        assert_eq!(mixed, "log lines: wrong: run 1: its lines are out of order");
        let left = complaints(|facts| facts.left_over.push("a mount".to_owned()));
        assert_eq!(left, "left over: a mount");
        let impatient = complaints(|facts| facts.impatient = 3);
        assert_eq!(impatient, "the code host had asked to wait, and was called 3 times");
    }
}
