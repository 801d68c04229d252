//! The database of the simulated server: what is committed is there after a crash.
//!
//! Its operations are those of the server's store, each a transaction, and decide as little: what follows
//! from what is asked of the same functions.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::{Change, LAST_HEARD, PullRequestAction};
use crate::concurrency::{Claimant, Group, Member, Newcomer, arrive, turns};
use crate::id::Sha;
use crate::outbox::{Quiet, is_due};
use crate::outcome::Outcome;
use crate::pull::{self, Known};
use crate::report::{EventFact, Facts, RunFact, State, Status, changes};
use crate::run::{Claim, Conclusion, Job, JobState, Reason, Run, Work};
use crate::trust::Trust;

use super::mutant::Mutant;

/// A webhook.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) number: i64,
    /// The id that the code host gave it.
    pub(super) guid: u32,
    /// What stands for its body: the same is the same.
    pub(super) body: u32,
    pub(super) change: Change,
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) number: i64,
    pub(super) delivery: i64,
    pub(super) change: Change,
    pub(super) outcome: Outcome,
    pub(super) refused: Vec<(String, String)>,
    pub(super) failures: i64,
    pub(super) next_try_at: i64,
}

#[derive(Debug, Clone)]
pub(super) struct RunRow {
    pub(super) number: i64,
    pub(super) event: i64,
    pub(super) git_ref: String,
    pub(super) sha: Sha,
    pub(super) pull: Option<i64>,
    pub(super) trust: Trust,
    /// Which of the workflows it is of.
    pub(super) workflow: usize,
    pub(super) group: Option<Group>,
    /// When it came to its group.
    turn: i64,
    pub(super) held: bool,
    pub(super) cancel: Option<Reason>,
    pub(super) attempt: i64,
    pub(super) conclusion: Option<Conclusion>,
}

#[derive(Debug, Clone)]
pub(super) struct JobRow {
    pub(super) id: u32,
    pub(super) run: i64,
    pub(super) run_attempt: i64,
    pub(super) job: Job,
    /// The job whose attempts are its own, when it was carried over from an earlier attempt of its run.
    pub(super) ran_as: u32,
    /// What it is in its concurrency group, once it has come to it.
    seat: Option<Seat>,
}

/// What a job is in its concurrency group.
#[derive(Debug, Clone)]
struct Seat {
    group: String,
    turn: i64,
    held: bool,
    cancel: Option<Reason>,
}

/// An attempt of a job.
#[derive(Debug, Clone, Default)]
pub(super) struct AttemptRow {
    pub(super) ended: bool,
    /// How much of its spool was taken over.
    pub(super) taken: usize,
    /// The steps that were taken over.
    pub(super) steps: Vec<u32>,
}

#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) status: Status,
    pub(super) version: i64,
    pub(super) sent: i64,
    pub(super) changed_at: i64,
    pub(super) failures: i64,
    pub(super) next_try_at: i64,
}

/// A run to be made.
#[derive(Debug)]
pub(super) struct NewRun {
    pub(super) workflow: usize,
    pub(super) trust: Trust,
    pub(super) group: Option<Group>,
    pub(super) late: bool,
    pub(super) run: Run,
}

/// What follows from an event.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) outcome: Outcome,
    pub(super) refused: Vec<(String, String)>,
    pub(super) run: Option<NewRun>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Db {
    counter: i64,
    turn_counter: i64,
    job_counter: u32,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) events: Vec<Event>,
    pub(super) pulls: BTreeMap<i64, Known>,
    pub(super) approvals: BTreeSet<Sha>,
    pub(super) runs: Vec<RunRow>,
    pub(super) jobs: Vec<JobRow>,
    pub(super) attempts: BTreeMap<(u32, u32), AttemptRow>,
    pub(super) reports: BTreeMap<(Sha, String), Report>,
    /// When the code host wants to hear nothing.
    pub(super) quiet: Quiet,
    pub(super) mutant: Option<Mutant>,
}

impl Db {
    pub(super) fn new(mutant: Option<Mutant>) -> Self {
        Self { mutant, ..Self::default() }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn next_number(&mut self) -> i64 {
        self.counter += 1;
        self.counter
    }

    /// Stores a webhook.
    pub(super) fn receive(&mut self, guid: u32, body: u32, change: Change) {
        let twice = self.is(Mutant::ProcessesTwice);
        if let Some(known) = self.deliveries.iter_mut().find(|known| known.guid == guid) {
            if known.outcome.is_reopened() || (twice && known.outcome == Outcome::Accepted) {
                known.outcome = Outcome::Pending;
            }
            return;
        }
        let number = self.next_number();
        let outcome = Outcome::Pending;
        self.deliveries.push(Delivery { number, guid, body, change, outcome });
    }

    /// Returns whether an earlier webhook told of the same thing.
    pub(super) fn has_earlier_same(&self, delivery: &Delivery) -> bool {
        self.deliveries.iter().any(|other| {
            other.number < delivery.number
                && other.body == delivery.body
                && !other.outcome.is_reopened()
        })
    }

    /// Stores what became of a webhook and, with it, the event that it tells of.
    pub(super) fn settle(&mut self, number: i64, repeat: bool, now: i64) {
        let Some(place) = self.deliveries.iter().position(|one| one.number == number) else {
            return;
        };
        let change = self.deliveries[place].change.clone();
        self.deliveries[place].outcome = if repeat {
            Outcome::Ignored(Reason::new("repeat", "a repeat"))
        } else {
            match self.take(&change, number, now) {
                Ok(()) => Outcome::Accepted,
                Err(late) => Outcome::Ignored(late),
            }
        };
    }

    fn take(&mut self, change: &Change, delivery: i64, now: i64) -> Result<(), Reason> {
        if let Change::PullRequest(pull) = change {
            let before = self.pulls.get(&pull.number);
            let known = match pull::hear(before, pull) {
                Err(_) if self.is(Mutant::RevivesOldHead) => {
                    let (head, updated_at) = (pull.head.clone(), pull.updated_at.clone());
                    Known { head, updated_at, open: true }
                }
                Ok(known) if self.is(Mutant::DropsNewHead) => {
                    let moved = before.is_some_and(|before| before.head != known.head);
                    if moved { before.cloned().unwrap_or(known) } else { known }
                }
                other => other?,
            };
            self.pulls.insert(pull.number, known);
            self.end_waiting(pull.number, now);
        }
        let number = self.next_number();
        self.events.push(Event {
            number,
            delivery,
            change: change.clone(),
            outcome: Outcome::Pending,
            refused: Vec::new(),
            failures: 0,
            next_try_at: 0,
        });
        if let Change::PullRequest(pull) = change
            && pull.action == PullRequestAction::Closed
        {
            let of_it =
                |run: &&mut RunRow| run.pull == Some(pull.number) && run.conclusion.is_none();
            for run in self.runs.iter_mut().filter(of_it) {
                run.cancel.get_or_insert_with(|| pull::closed(pull.number));
            }
        }
        if let Some(sha) = change.sha() {
            self.refresh(sha, now);
        }
        Ok(())
    }

    /// Ends what waits for the approval of what is not the head of its pull request any more.
    fn end_waiting(&mut self, number: i64, now: i64) {
        let Some(known) = self.pulls.get(&number).cloned() else { return };
        let mut shas = Vec::new();
        for event in &mut self.events {
            let (Outcome::Waiting(_), Change::PullRequest(of)) = (&event.outcome, &event.change)
            else {
                continue;
            };
            if of.number != number {
                continue;
            }
            if let Some(reason) = pull::ends_waiting(number, &known, &of.head) {
                shas.push(of.head.clone());
                event.outcome = Outcome::Dead(reason);
            }
        }
        for sha in shas {
            self.refresh(&sha, now);
        }
    }

    /// Returns the event that is to be decided next: no other of its ref is before it.
    pub(super) fn pending_event(&self, now: i64, longest: i64) -> Option<Event> {
        let pending = |event: &&Event| event.outcome == Outcome::Pending;
        let first = |event: &&Event| {
            let subject = event.change.full_ref();
            let of_it = |other: &&Event| other.change.full_ref() == subject;
            self.events.iter().filter(pending).filter(of_it).all(|o| o.number >= event.number)
        };
        let is_due = |event: &&Event| self.due(event.next_try_at, now, longest);
        self.events.iter().filter(pending).filter(first).find(is_due).cloned()
    }

    /// Returns whether something is to be tried again.
    pub(super) fn due(&self, at: i64, now: i64, longest: i64) -> bool {
        if self.is(Mutant::TrustsClock) { at <= now } else { is_due(at, now, longest) }
    }

    /// Returns the commits that a ref was heard to be at before an event of it came.
    pub(super) fn heard_before(&self, event: &Event) -> Vec<Sha> {
        let subject = event.change.full_ref();
        let before = self
            .events
            .iter()
            .filter(|other| other.number < event.number && other.change.full_ref() == subject);
        let heard = before.rev().filter_map(|other| other.change.sha().cloned());
        heard.take(LAST_HEARD).collect()
    }

    /// Records the head that a pull request has in the repository itself.
    pub(super) fn correct_head(&mut self, number: i64, known: &Sha, head: &Sha, now: i64) {
        let Some(pull) = self.pulls.get_mut(&number).filter(|pull| pull.head == *known) else {
            return;
        };
        if pull.head == *head {
            return;
        }
        pull.head = head.clone();
        for event in &mut self.events {
            let is_it = matches!(&event.change, Change::PullRequest(of)
                if of.number == number && of.head == *head);
            if is_it && matches!(&event.outcome, Outcome::Ignored(reason) if reason.code == "late")
            {
                event.outcome = Outcome::Pending;
            }
        }
        self.end_waiting(number, now);
    }

    /// Stores what follows from an event.
    pub(super) fn decide(&mut self, number: i64, decision: Decision, now: i64) {
        let Some(place) = self.events.iter().position(|event| event.number == number) else {
            return;
        };
        if self.events[place].outcome != Outcome::Pending {
            return;
        }
        let change = self.events[place].change.clone();
        let late = match &change {
            Change::PullRequest(pull) if pull.action != PullRequestAction::Closed => {
                pull::is_current(self.pulls.get(&pull.number), pull.number, &pull.head).err()
            }
            _ => None,
        };
        let late = late.filter(|_| !self.is(Mutant::RevivesOldHead));
        let decision = match late {
            Some(reason) => {
                Decision { outcome: Outcome::Ignored(reason), refused: Vec::new(), run: None }
            }
            None => decision,
        };
        self.events[place].outcome = decision.outcome;
        self.events[place].refused = decision.refused;
        if let Some(new) = decision.run {
            self.insert_run(number, &change, new);
        }
        if let Some(sha) = change.sha() {
            self.refresh(sha, now);
        }
    }

    fn insert_run(&mut self, event: i64, change: &Change, new: NewRun) {
        let Some(sha) = change.sha().cloned() else { return };
        let number = self.next_number();
        let late = new.late && !self.is(Mutant::LatePushEndsNewer);
        let (held, cancel) = match &new.group {
            Some(group) => self.join(group, Claimant::run(number), &[], new.trust, late),
            None => (false, None),
        };
        let turn = self.next_turn();
        self.runs.push(RunRow {
            number,
            event,
            git_ref: change.full_ref(),
            sha,
            pull: change.pull_request(),
            trust: new.trust,
            workflow: new.workflow,
            group: new.group,
            turn,
            held,
            cancel,
            attempt: 1,
            conclusion: None,
        });
        for job in new.run.jobs {
            self.insert_job(number, 1, job, None);
        }
    }

    fn insert_job(&mut self, run: i64, run_attempt: i64, job: Job, carried: Option<u32>) {
        self.job_counter += 1;
        let id = self.job_counter;
        let ran_as = carried.unwrap_or(id);
        self.jobs.push(JobRow { id, run, run_attempt, job, ran_as, seat: None });
    }

    /// Returns the last id that a job has got.
    pub(super) fn last_job_id(&self) -> u32 {
        self.job_counter
    }

    /// Brings a run or job to a group: returns whether it waits, and why it never gets its turn.
    fn join(
        &mut self,
        group: &Group,
        who: Claimant,
        callers: &[usize],
        trust: Trust,
        late: bool,
    ) -> (bool, Option<Reason>) {
        let mut members = self.members();
        members.retain(|(_, member)| member.who != who);
        let arrival = arrive(&members, group, Newcomer { who, callers, trust, late });
        for (other, reason) in arrival.cancels {
            match other.job {
                None => {
                    for run in self.runs.iter_mut().filter(|run| run.number == other.run) {
                        run.cancel.get_or_insert_with(|| reason.clone());
                    }
                }
                Some(place) => {
                    if let Some(seat) = self.seat_of(other.run, place) {
                        seat.cancel.get_or_insert(reason);
                    }
                }
            }
        }
        (arrival.held, arrival.cancelled)
    }

    /// Brings a job to its group, unless it has come there already.
    fn seat(&mut self, run: i64, id: u32, claim: &Claim) {
        let Some(place) = self.jobs_of(run).iter().position(|row| row.id == id) else { return };
        if self.jobs_of(run)[place].seat.is_some() {
            return;
        }
        let Some(trust) = self.run(run).map(|run| run.trust) else { return };
        let who = Claimant::job(run, place);
        let (held, cancel) = self.join(&claim.group, who, &claim.callers, trust, false);
        let seat = Seat { group: claim.group.name.clone(), turn: self.next_turn(), held, cancel };
        if let Some(row) = self.jobs.iter_mut().find(|row| row.id == id) {
            row.seat = Some(seat);
        }
    }

    fn seat_of(&mut self, run: i64, place: usize) -> Option<&mut Seat> {
        let id = self.jobs_of(run).get(place).map(|row| row.id)?;
        self.jobs.iter_mut().find(|row| row.id == id)?.seat.as_mut()
    }

    fn next_turn(&mut self) -> i64 {
        self.turn_counter += 1;
        self.turn_counter
    }

    /// Returns all who are in a group, each with the name of it.
    pub(super) fn members(&self) -> Vec<(String, Member)> {
        let mut members = Vec::new();
        for run in self.runs.iter().filter(|run| run.conclusion.is_none()) {
            let trust = run.trust;
            if let Some(group) = &run.group {
                let member = Member {
                    who: Claimant::run(run.number),
                    callers: Vec::new(),
                    trust,
                    turn: run.turn,
                    held: run.held,
                    cancelled: run.cancel.is_some(),
                    is_whole: true,
                };
                members.push((group.name.clone(), member));
            }
            for (place, row) in self.jobs_of(run.number).into_iter().enumerate() {
                let seat = row.seat.as_ref().filter(|_| row.job.state.conclusion().is_none());
                let Some(seat) = seat else { continue };
                let claim = row.job.claim.as_ref();
                let member = Member {
                    who: Claimant::job(run.number, place),
                    callers: claim.map(|claim| claim.callers.clone()).unwrap_or_default(),
                    trust,
                    turn: seat.turn,
                    held: seat.held,
                    cancelled: seat.cancel.is_some(),
                    is_whole: row.job.work != Work::Steps,
                };
                members.push((seat.group.clone(), member));
            }
        }
        members
    }

    /// Gives a run or job its turn, if it still is that.
    pub(super) fn release(&mut self, who: Claimant) {
        let members = self.members();
        if !turns(members.iter().map(|(group, member)| (group, member))).contains(&who) {
            return;
        }
        match who.job {
            None => {
                for run in self.runs.iter_mut().filter(|run| run.number == who.run) {
                    run.held = false;
                }
            }
            Some(place) => {
                if let Some(seat) = self.seat_of(who.run, place) {
                    seat.held = false;
                }
            }
        }
    }

    /// Returns why the job at `place` of a run is to end for another of its group.
    pub(super) fn superseded(&self, run: i64, place: usize) -> Option<Reason> {
        self.jobs_of(run).get(place)?.seat.as_ref()?.cancel.clone()
    }

    /// Returns the jobs of the current attempt of a run, in the order of the plan.
    pub(super) fn jobs_of(&self, run: i64) -> Vec<&JobRow> {
        let attempt = self.run(run).map_or(0, |run| run.attempt);
        self.jobs.iter().filter(|job| job.run == run && job.run_attempt == attempt).collect()
    }

    /// Returns a run.
    pub(super) fn run(&self, number: i64) -> Option<&RunRow> {
        self.runs.iter().find(|run| run.number == number)
    }

    /// Stores jobs that moved and, with them, what was taken over and the run's conclusion.
    pub(super) fn save_moves(
        &mut self,
        run: i64,
        moved: &[(u32, Job)],
        conclusion: Option<Conclusion>,
        taken: Option<&Taken>,
        now: i64,
    ) {
        if let Some(taken) = taken {
            let row = self.attempts.entry((taken.job, taken.attempt)).or_default();
            row.steps.extend(&taken.steps);
            row.ended |= taken.ended;
            if self.mutant != Some(Mutant::ForgetsTaken) || taken.ended {
                row.taken = taken.to;
            }
        }
        for (id, job) in moved {
            if let JobState::Running { attempt, .. } = &job.state {
                self.attempts.entry((*id, attempt.0)).or_default();
            }
            match self.jobs.iter_mut().find(|row| row.id == *id) {
                Some(row) => row.job = job.clone(),
                // What was called, or made by what others said.
                None => {
                    let attempt = self.run(run).map_or(0, |run| run.attempt);
                    self.insert_job(run, attempt, job.clone(), None);
                }
            }
        }
        for (id, job) in moved {
            if let (JobState::Pending { .. }, Some(claim)) = (&job.state, &job.claim) {
                self.seat(run, *id, claim);
            }
        }
        let Some(row) = self.runs.iter_mut().find(|row| row.number == run) else { return };
        row.conclusion = conclusion.or(row.conclusion);
        let sha = row.sha.clone();
        let dropped = self.is(Mutant::DropsReport) && conclusion.is_some();
        if (!moved.is_empty() || conclusion.is_some()) && !dropped {
            self.refresh(&sha, now);
        }
    }

    /// Starts another attempt of a run that is over.
    pub(super) fn rerun(&mut self, number: i64, failed_only: bool, now: i64) {
        let Some(row) = self.run(number).filter(|run| run.conclusion.is_some()).cloned() else {
            return;
        };
        let before: Vec<JobRow> = self.jobs_of(number).into_iter().cloned().collect();
        let jobs = before.iter().map(|row| row.job.clone()).collect();
        let mut run = Run::of(jobs);
        let Some(places) = run.again(failed_only) else { return };
        let held = match &row.group {
            Some(group) => {
                // A re-run takes its turn like any other, and ends nobody that goes on.
                let group = Group { cancel_in_progress: false, ..group.clone() };
                self.join(&group, Claimant::run(number), &[], row.trust, false).0
            }
            None => false,
        };
        let turn = self.next_turn();
        for (job, place) in run.jobs.into_iter().zip(places) {
            let carried = job.state.conclusion().map(|_| before[place].ran_as);
            self.insert_job(number, row.attempt + 1, job, carried);
        }
        for run in self.runs.iter_mut().filter(|run| run.number == number) {
            run.attempt += 1;
            run.conclusion = None;
            run.cancel = None;
            run.held = held;
            run.turn = turn;
        }
        self.refresh(&row.sha, now);
    }

    /// Approves a commit.
    pub(super) fn approve(&mut self, sha: &Sha, now: i64) {
        for event in &mut self.events {
            if matches!(event.outcome, Outcome::Waiting(_)) && event.change.sha() == Some(sha) {
                event.outcome = Outcome::Pending;
            }
        }
        self.approvals.insert(sha.clone());
        self.refresh(sha, now);
    }

    /// Gathers all that there is of a commit.
    pub(super) fn facts(&self, sha: &Sha) -> Facts {
        let events = self.events.iter().filter(|event| event.change.sha() == Some(sha));
        let events = events.map(|event| EventFact {
            number: event.number,
            git_ref: event.change.full_ref(),
            outcome: event.outcome.clone(),
            refused: event.refused.clone(),
        });
        let runs = self.runs.iter().filter(|run| run.sha == *sha).map(|run| RunFact {
            number: run.number,
            git_ref: run.git_ref.clone(),
            path: format!("workflow {}", run.workflow),
            held: run.held,
            shadow: false,
            jobs: self.jobs_of(run.number).into_iter().map(|row| row.job.clone()).collect(),
        });
        Facts::of(events.collect(), runs.collect())
    }

    /// Folds all that bears on a commit now, and stores what its contexts show.
    fn refresh(&mut self, sha: &Sha, now: i64) {
        let mut facts = self.facts(sha);
        if self.is(Mutant::FoldsBest) {
            facts.jobs.sort_by_key(|job| job.state.conclusion() != Some(Conclusion::Success));
            facts.jobs.dedup_by(|other, first| other.name == first.name);
        }
        let of_it =
            |report: &&Report| !(self.is(Mutant::LeavesPending) && report.is_orphan(&facts));
        let stored = self.reports.range((sha.clone(), String::new())..);
        let stored = stored.take_while(|((of, _), _)| of == sha).map(|(_, report)| report);
        let stored: Vec<Status> =
            stored.filter(of_it).map(|report| report.status.clone()).collect();
        for status in changes(&stored, &facts) {
            let key = (sha.clone(), status.context.clone());
            match self.reports.get_mut(&key) {
                Some(report) => {
                    report.status = status;
                    report.version += 1;
                    (report.changed_at, report.failures, report.next_try_at) = (now, 0, 0);
                }
                None => {
                    let report = Report {
                        status,
                        version: 1,
                        sent: 0,
                        changed_at: now,
                        failures: 0,
                        next_try_at: 0,
                    };
                    self.reports.insert(key, report);
                }
            }
        }
    }

    /// Returns the report that is to be sent next: verdicts first.
    pub(super) fn due_report(&self, now: i64, longest: i64) -> Option<(Sha, String)> {
        let due = self.reports.iter().filter(|(_, report)| {
            report.sent < report.version && self.due(report.next_try_at, now, longest)
        });
        let first = due
            .min_by_key(|(_, report)| (report.status.state == State::Pending, report.changed_at));
        first.map(|(key, _)| key.clone())
    }
}

impl Report {
    fn is_orphan(&self, facts: &Facts) -> bool {
        self.status.context != crate::report::ROLL_UP
            && facts.jobs.iter().all(|job| job.name != self.status.context)
    }
}

/// What was taken over from a spool.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) job: u32,
    pub(super) attempt: u32,
    pub(super) to: usize,
    pub(super) steps: Vec<u32>,
    pub(super) ended: bool,
}
