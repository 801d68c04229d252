//! The simulated server: its loops, step by step. They act on stored state and ask the same functions as the
//! real ones; between any two of their steps the server may be killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use muster_workflow::expr::Contexts;
use muster_workflow::trigger::{ChangedFiles, Verdict, judge};
use muster_workflow::workflow::Workflow;
use muster_workflow::{Text, Workflows, plan, read};
use serde_json::json;

use super::World;
use super::db::{Db, Decision, Event, NewRun, Report, Taken};
use super::forge::Shown;
use super::machine::Record;
use super::mutant::Mutant;
use crate::change::{Change, is_late_push};
use crate::concurrency::{Claimant, group_of, turns};
use crate::id::{Attempt, Sha};
use crate::outbox::{Answer, BETWEEN_WRITES_MS, LONGEST_WAIT_MS, NEVER, Quiet, sequel};
use crate::outcome::{Outcome, UNWANTED};
use crate::run::{
    Conclusion, Ground, Job, JobState, Reason, Report as JobReport, Run, fairest, moved,
};
use crate::trust::{Protection, Standing, Trust, admit, approval};

/// How many jobs run at once.
pub(super) const JOBS: usize = 3;
/// The wait of an event that cannot be decided, and the longest.
const EVENT_WAIT_MS: i64 = 1_000;
const LONGEST_EVENT_WAIT_MS: i64 = 600_000;

/// The workflow files that commits have, from simple to refused; the last has none.
const WORKFLOWS: [&str; 12] = [
    "on: [push, pull_request]\njobs:\n  a: {runs-on: x, steps: [{run: a}]}\n",
    "on: [push, pull_request]\njobs:\n  a: {runs-on: x, steps: [{run: a}]}\n  b: {runs-on: x, needs: a, steps: [{run: b}]}\n  c: {runs-on: x, strategy: {matrix: {n: [1, 2]}}, steps: [{run: c}]}\n",
    "on: [push, pull_request]\nconcurrency: {group: deploy, cancel-in-progress: true}\njobs:\n  deploy: {runs-on: x, steps: [{run: a}]}\n",
    "on: [push, pull_request]\nconcurrency: deploy\njobs:\n  may: {runs-on: x, continue-on-error: true, steps: [{run: a}]}\n  last: {runs-on: x, needs: may, if: always(), steps: [{run: a}]}\n",
    "on: {push: {}, pull_request: {types: [opened, synchronize, reopened, ready_for_review]}}\njobs:\n  named: {name: \"on ${{ github.event.action }}\", runs-on: x, steps: [{run: a}]}\n  same: {name: twice, runs-on: x, steps: [{run: a}]}\n  other: {name: twice, runs-on: x, steps: [{run: a}]}\n",
    "on: [push, pull_request]\njobs:\n  a: {runs-on: x, steps: [{run: a}]}\n  call: {needs: a, strategy: {matrix: {n: [1, 2]}}, uses: ./.github/workflows/called.yml}\n  b: {needs: call, runs-on: x, steps: [{run: b}]}\n",
    "on: [push, pull_request]\njobs:\n  a: {runs-on: x, steps: [{run: a}]}\n  legs: {needs: a, runs-on: x, strategy: {max-parallel: 1, matrix: {n: \"${{ fromJSON(needs.a.outputs.list || '[1, 2]') }}\"}}, steps: [{run: b}]}\n  last: {needs: legs, if: always(), uses: ./.github/workflows/called.yml}\n",
    "on: [push, pull_request]\njobs:\n  a: {runs-on: x, concurrency: Deploy, strategy: {matrix: {n: [1, 2, 3]}, fail-fast: false}, steps: [{run: a}]}\n  call: {needs: a, if: always(), concurrency: {group: called, cancel-in-progress: true}, uses: ./.github/workflows/called.yml}\n",
    "on: [push, pull_request]\nconcurrency: called\njobs:\n  a: {runs-on: x, concurrency: {group: deploy, queue: max}, strategy: {matrix: {n: [1, 2, 3]}}, steps: [{run: a}]}\n  itself: {runs-on: x, concurrency: called, steps: [{run: a}]}\n",
    "on: pull_request\njobs:\n  a: {runs-on: x, steps: [{run: a}]}\n",
    "on: push\njobs:\n  a: {runs-on: x, services: {}, steps: []}\n",
    "",
];

/// The workflow that some of them call.
const CALLED: &str = "on: workflow_call\njobs:\n  c: {runs-on: x, steps: [{run: c}]}\n  d: {needs: c, runs-on: x, steps: [{run: d}]}\n";

/// Returns the workflow of a commit with what it calls, or why it is refused; `None` where it has none.
pub(super) fn workflow(number: usize) -> Option<&'static Result<Workflows, String>> {
    static READ: OnceLock<Vec<Option<Result<Workflows, String>>>> = OnceLock::new();
    let all = READ.get_or_init(|| {
        let first = |problems: Vec<muster_workflow::diagnostic::Problem>| {
            problems.first().map(|problem| problem.message.clone()).unwrap_or_default()
        };
        let called = |_: &_| Text::Here(CALLED.to_owned());
        let supported = |workflow: Workflow| match workflow.unsupported.as_slice() {
            [] => Ok(Workflows::gather(workflow, &mut { called })),
            problems => Err(problems.to_vec()),
        };
        let read =
            |text: &&str| (!text.is_empty()).then(|| read(text).and_then(supported).map_err(first));
        WORKFLOWS.iter().map(read).collect()
    });
    all[number % all.len()].as_ref()
}

/// Why a loop does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The server was killed.
    Killed,
    /// The database refused.
    Failed,
}

/// What the server has in memory.
#[derive(Debug, Default)]
pub(super) struct Server {
    runs: BTreeMap<i64, Live>,
    watched: Vec<Watched>,
    attached: bool,
    /// When the code host may be called, by a clock that nobody sets; 0 is not known yet.
    next_write_at: i64,
    /// An event that was looked at, and what is to follow.
    looked: Option<(i64, Decision)>,
    /// A report that was sent, and how it was answered.
    sent: Option<(Sha, String, Report, Answer)>,
}

#[derive(Debug)]
struct Live {
    run: Run,
    attempt: i64,
    workflow: usize,
    /// The ids of its jobs, in the order of the plan.
    jobs: Vec<u32>,
}

/// An attempt whose spool is read on.
#[derive(Debug)]
struct Watched {
    run: i64,
    job: u32,
    attempt: u32,
    taken: usize,
}

/// Returns what the expressions of a run see.
fn contexts(change: Option<&Change>) -> Contexts {
    let action = match change {
        Some(Change::PullRequest(pull)) => pull.action.as_str(),
        _ => "",
    };
    let mut contexts = Contexts::new();
    contexts.set("github", &json!({"event": {"action": action}}));
    contexts
}

impl World {
    /// Between any two steps the server may be killed.
    fn go_on(&mut self) -> Result<(), Stop> {
        match &mut self.fuse {
            Some(0) => {
                self.kill_server();
                return Err(Stop::Killed);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if self.server.is_none() { Err(Stop::Killed) } else { Ok(()) }
    }

    /// Does all of `work` in one transaction, or nothing of it.
    fn write(&mut self, work: impl FnOnce(&mut Db, i64)) -> Result<(), Stop> {
        self.go_on()?;
        if self.disk_failures > 0 {
            self.disk_failures -= 1;
            return Err(Stop::Failed);
        }
        work(&mut self.db, self.clock);
        self.go_on()
    }

    fn server(&mut self) -> Result<&mut Server, Stop> {
        self.server.as_mut().ok_or(Stop::Killed)
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.db.mutant == Some(mutant)
    }

    /// The front door takes a webhook in; returns whether it was answered 2xx.
    pub(super) fn take_in(&mut self, guid: u32, body: u32, change: &Change) -> Result<(), Stop> {
        self.go_on()?;
        if self.is(Mutant::AnswersBeforeStoring) {
            self.answered.insert(guid);
        }
        let change = change.clone();
        self.write(|db, _| db.receive(guid, body, change))?;
        self.answered.insert(guid);
        Ok(())
    }

    /// `loops/intake`
    pub(super) fn intake(&mut self) -> Result<(), Stop> {
        let pending = self.db.deliveries.iter().filter(|one| one.outcome == Outcome::Pending);
        let pending: Vec<i64> = pending.map(|one| one.number).collect();
        for number in pending {
            let of_it = self.db.deliveries.iter().find(|one| one.number == number);
            let Some(delivery) = of_it.cloned() else { continue };
            let repeat = self.db.has_earlier_same(&delivery);
            self.write(|db, now| db.settle(number, repeat, now))?;
        }
        Ok(())
    }

    /// `loops/plan`, in two steps: what happens while a commit is fetched happens between them.
    pub(super) fn plan(&mut self) -> Result<(), Stop> {
        self.go_on()?;
        if let Some((number, decision)) = self.server()?.looked.take() {
            return self.write(|db, now| db.decide(number, decision, now));
        }
        let Some(event) = self.db.pending_event(self.clock, LONGEST_EVENT_WAIT_MS) else {
            return Ok(());
        };
        let Some(decision) = self.look(&event)? else {
            return self.write(|db, now| {
                for one in db.events.iter_mut().filter(|one| one.number == event.number) {
                    let wait = (EVENT_WAIT_MS << one.failures.min(16)).min(LONGEST_EVENT_WAIT_MS);
                    one.failures += 1;
                    one.next_try_at = now + wait;
                }
            });
        };
        self.server()?.looked = Some((event.number, decision));
        Ok(())
    }

    /// Decides an event; `None` when its repository cannot be reached now.
    fn look(&mut self, event: &Event) -> Result<Option<Decision>, Stop> {
        let nothing = |outcome| Some(Decision { outcome, refused: Vec::new(), run: None });
        let known = match &event.change {
            Change::PullRequest(pull) => self.db.pulls.get(&pull.number).cloned(),
            _ => None,
        };
        let approved = self.is_approved(&event.change);
        let protection = Protection::Branch("main".to_owned());
        let (known, protection) = (known.as_ref(), &protection);
        let standing = Standing { known, approved, cageless: None, protection };
        let trust = match admit(&event.change, standing) {
            Ok(trust) => trust,
            Err(outcome) => return Ok(nothing(outcome)),
        };
        if self.forge.unreachable > 0 {
            self.forge.unreachable -= 1;
            return Ok(None);
        }
        let Some(sha) = event.change.sha() else {
            return Ok(nothing(Outcome::Ignored(Reason::new(UNWANTED, "gone"))));
        };
        let mut late = false;
        match &event.change {
            Change::PullRequest(pull) => {
                let there = self.forge.pulls.iter().find(|one| one.number == pull.number);
                let head = there.map_or(sha, |there| &there.head).clone();
                if let Some(known) = known {
                    self.write(|db, now| db.correct_head(pull.number, &known.head, &head, now))?;
                }
                if head != *sha {
                    return Ok(nothing(Outcome::Ignored(Reason::new("late", "it has moved on"))));
                }
                if !trust.may_run() {
                    return Ok(nothing(approval(pull)));
                }
            }
            Change::Push { git_ref, .. } => {
                let heard = self.db.heard_before(event);
                let at = self.forge.branch_at(git_ref);
                late = is_late_push(sha, at, &heard, |newer| self.forge.is_ancestor(sha, newer));
            }
            Change::Delete { .. } | Change::Dispatch(_) | Change::Due(_) => {}
        }
        Ok(Some(self.judge_file(event, trust, late)))
    }

    fn is_approved(&self, change: &Change) -> bool {
        let Change::PullRequest(pull) = change else { return false };
        if !self.is(Mutant::ApprovesAllHeads) {
            return self.db.approvals.contains(&pull.head);
        }
        self.db.events.iter().any(|event| {
            let sha = event.change.sha();
            matches!(&event.change, Change::PullRequest(of) if of.number == pull.number)
                && sha.is_some_and(|sha| self.db.approvals.contains(sha))
        })
    }

    fn judge_file(&self, event: &Event, trust: Trust, late: bool) -> Decision {
        let ignored = |code: &str| Decision {
            outcome: Outcome::Ignored(Reason::new(code, "nothing to run")),
            refused: Vec::new(),
            run: None,
        };
        let number = event.change.sha().map_or(0, |sha| self.forge.workflow_of(sha));
        let number = number % WORKFLOWS.len();
        let workflow = match workflow(number) {
            None => return ignored("nothing"),
            Some(Err(problem)) => {
                let refused = vec![(format!("workflow {number}"), problem.clone())];
                return Decision { outcome: Outcome::Accepted, refused, run: None };
            }
            Some(Ok(workflow)) => workflow,
        };
        let root = workflow.root();
        if let Verdict::Skip(_) = judge(root, &event.change.event(ChangedFiles::Unknown)) {
            return ignored(UNWANTED);
        }
        let contexts = contexts(Some(&event.change));
        let planned = plan(root, &contexts).unwrap_or_default();
        let group = group_of(&event.change, &format!("workflow {number}"), root, &contexts);
        let group = group.ok().flatten();
        let run = NewRun { workflow: number, trust, group, late, run: Run::new(&planned) };
        Decision { outcome: Outcome::Accepted, refused: Vec::new(), run: Some(run) }
    }

    /// `loops/drive`
    pub(super) fn drive(&mut self) -> Result<(), Stop> {
        self.go_on()?;
        self.attach()?;
        self.follow_orders()?;
        self.take_news()?;
        let runs: Vec<i64> = self.server()?.runs.keys().copied().collect();
        for run in runs {
            let stepped = self.step_run(run, None);
            self.or_forget(run, stepped)?;
        }
        self.tell()?;
        self.start_queued()
    }

    /// After a write that failed, what is in memory of a run is not what is stored.
    fn or_forget(&mut self, run: i64, done: Result<(), Stop>) -> Result<(), Stop> {
        if done != Err(Stop::Failed) {
            return done;
        }
        let server = self.server()?;
        server.runs.remove(&run);
        server.watched.retain(|watched| watched.run != run);
        server.attached = false;
        Ok(())
    }

    fn attach(&mut self) -> Result<(), Stop> {
        if self.server()?.attached {
            return Ok(());
        }
        let open: Vec<_> = self.db.attempts.iter().filter(|(_, row)| !row.ended).collect();
        let mut found = Vec::new();
        for ((job, attempt), row) in open {
            let Some(of) = self.db.jobs.iter().find(|row| row.id == *job) else { continue };
            let (run, job, attempt) = (of.run, *job, *attempt);
            found.push(Watched { run, job, attempt, taken: row.taken });
        }
        let server = self.server()?;
        let known: BTreeSet<_> = server.watched.iter().map(|one| (one.job, one.attempt)).collect();
        found.retain(|one| !known.contains(&(one.job, one.attempt)));
        server.watched.extend(found);
        server.attached = true;
        Ok(())
    }

    fn follow_orders(&mut self) -> Result<(), Stop> {
        let open: Vec<_> =
            self.db.runs.iter().filter(|run| run.conclusion.is_none()).cloned().collect();
        let members = self.db.members();
        for who in turns(members.iter().map(|(group, member)| (group, member))) {
            if self.is(Mutant::LosesTurn) && who.run % 2 == 0 {
                continue;
            }
            self.write(|db, _| db.release(who))?;
        }
        self.server()?.runs.retain(|number, _| open.iter().any(|run| run.number == *number));
        for order in open {
            if order.held && order.cancel.is_none() {
                continue;
            }
            if self.server()?.runs.get(&order.number).is_none_or(|l| l.attempt != order.attempt) {
                let rows = self.db.jobs_of(order.number);
                let jobs: Vec<u32> = rows.iter().map(|row| row.id).collect();
                let mut run = Run::of(rows.iter().map(|row| row.job.clone()).collect());
                if self.is(Mutant::ForgetsEnd) {
                    for job in run.jobs.iter_mut().filter(|job| job.state.conclusion().is_some()) {
                        job.state = JobState::Queued { attempt: Attempt::FIRST };
                    }
                }
                if let (true, Some(reason)) = (order.held, &order.cancel) {
                    // Its turn never came, so nothing of it runs.
                    run.abandon(Conclusion::Cancelled, reason);
                    let moved: Vec<_> = jobs.into_iter().zip(run.jobs).collect();
                    let over = run.concluded;
                    let number = order.number;
                    self.write(|db, now| db.save_moves(number, &moved, over, None, now))?;
                    continue;
                }
                let (attempt, workflow) = (order.attempt, order.workflow);
                self.server()?.runs.insert(order.number, Live { run, attempt, workflow, jobs });
            }
            if let Some(live) = self.server()?.runs.get_mut(&order.number)
                && live.run.cancel.is_none()
            {
                live.run.cancel.clone_from(&order.cancel);
            }
        }
        let skips = self.is(Mutant::SkipsQueue);
        for (_, member) in self.db.members() {
            let Claimant { run, job: Some(place) } = member.who else { continue };
            let superseded = self.db.superseded(run, place);
            let Some(live) = self.server()?.runs.get_mut(&run) else { continue };
            let Some(id) = live.jobs.get(place).copied() else { continue };
            let ends = |reason: &Reason| !live.run.supersede(place, reason).is_empty();
            if superseded.as_ref().is_some_and(ends) {
                let moved = [(id, live.run.jobs[place].clone())];
                let done = self.write(|db, now| db.save_moves(run, &moved, None, None, now));
                self.or_forget(run, done)?;
            } else if superseded.is_none() && (!member.held || skips) {
                live.run.admit(place);
            }
        }
        Ok(())
    }

    fn take_news(&mut self) -> Result<(), Stop> {
        let mut place = 0;
        while let Some(watched) = self.server()?.watched.get(place) {
            let (run, job, attempt, from) =
                (watched.run, watched.job, watched.attempt, watched.taken);
            let supervisor = self.machine.supervisors.get(&(job, attempt));
            let alive = supervisor.is_some_and(|supervisor| supervisor.alive);
            let news: Vec<Record> =
                supervisor.map(|s| s.spool[from..].to_vec()).unwrap_or_default();
            let result = news.iter().find_map(|record| match record {
                Record::Result(conclusion) => Some(*conclusion),
                Record::Step(_) => None,
            });
            let lost = !alive && result.is_none();
            if (news.is_empty() && !lost) || !self.server()?.runs.contains_key(&run) {
                place += 1;
                continue;
            }
            let steps = news.iter().filter_map(|record| match record {
                Record::Step(step) => Some(*step),
                Record::Result(_) => None,
            });
            let ended = result.is_some() || lost;
            let to = from + news.len();
            let taken = Taken { job, attempt, to, steps: steps.collect(), ended };
            self.report_attempt(run, job, Attempt(attempt), result, lost)?;
            match self.step_run(run, Some(&taken)) {
                Err(Stop::Failed) => {
                    self.or_forget(run, Err(Stop::Failed))?;
                    place = 0;
                    continue;
                }
                other => other?,
            }
            if ended {
                self.server()?.watched.swap_remove(place);
            } else {
                self.server()?.watched[place].taken = to;
                place += 1;
            }
        }
        Ok(())
    }

    /// Tells the engine what became of an attempt.
    fn report_attempt(
        &mut self,
        run: i64,
        job: u32,
        attempt: Attempt,
        result: Option<Conclusion>,
        lost: bool,
    ) -> Result<(), Stop> {
        let (reuses, for_ever) = (self.is(Mutant::ReusesAttempt), self.is(Mutant::RetriesForEver));
        let Some(live) = self.server()?.runs.get_mut(&run) else { return Ok(()) };
        let Some(place) = live.jobs.iter().position(|id| *id == job) else { return Ok(()) };
        let report = match result {
            Some(conclusion) => {
                JobReport::Finished { conclusion, reason: None, outputs: Vec::new() }
            }
            None if lost => JobReport::Lost,
            None => return Ok(()),
        };
        if lost && for_ever {
            let _ = live.run.jobs[place].state.retry(attempt);
            return Ok(());
        }
        // A late report changes nothing.
        let _ = live.run.report(place, attempt, report);
        if let (true, JobState::Queued { attempt: next }) =
            (reuses, &mut live.run.jobs[place].state)
        {
            *next = attempt;
        }
        Ok(())
    }

    /// Lets the engine take the moves of a run, and stores them with what was taken over.
    fn step_run(&mut self, number: i64, taken: Option<&Taken>) -> Result<(), Stop> {
        let event = self.db.run(number).map(|run| run.event);
        let change = self.db.events.iter().find(|one| Some(one.number) == event);
        let contexts = contexts(change.map(|event| &event.change));
        let mut next_id = self.db.last_job_id();
        let Some(live) = self.server()?.runs.get_mut(&number) else { return Ok(()) };
        let Some(Ok(workflows)) = workflow(live.workflow) else { return Ok(()) };
        let effects = live.run.step(Ground { workflows, contexts: &contexts });
        while live.jobs.len() < live.run.jobs.len() {
            next_id += 1;
            live.jobs.push(next_id);
        }
        let mut moved = moved(&effects);
        if let Some(taken) = taken.filter(|taken| taken.ended) {
            moved.extend(live.jobs.iter().position(|id| *id == taken.job));
        }
        if moved.is_empty() && taken.is_none() && effects.is_empty() {
            return Ok(());
        }
        let moved: Vec<(u32, Job)> =
            moved.into_iter().map(|at| (live.jobs[at], live.run.jobs[at].clone())).collect();
        let over = live.run.concluded;
        self.write(|db, now| db.save_moves(number, &moved, over, taken, now))?;
        if over.is_some() {
            self.server()?.runs.remove(&number);
        }
        Ok(())
    }

    /// Tells supervisors to stop whose jobs are to end.
    fn tell(&mut self) -> Result<(), Stop> {
        let server = self.server()?;
        let stopping = server.watched.iter().filter(|watched| {
            server.runs.get(&watched.run).is_some_and(|live| {
                let place = live.jobs.iter().position(|id| *id == watched.job);
                let state = place.map(|place| &live.run.jobs[place].state);
                matches!(state, Some(JobState::Running { stopping: Some(_), .. }))
            })
        });
        let stopping: Vec<_> = stopping.map(|one| (one.job, one.attempt)).collect();
        for key in stopping {
            self.go_on()?;
            if let Some(supervisor) = self.machine.supervisors.get_mut(&key) {
                supervisor.told = true;
            }
        }
        Ok(())
    }

    /// Gives queued jobs to supervisors.
    fn start_queued(&mut self) -> Result<(), Stop> {
        while self.server()?.attached && self.server()?.watched.len() < JOBS {
            let candidates = self.server()?.runs.iter().filter_map(|(number, live)| {
                Some((0, *number, (*number, live.run.next_queued()?)))
            });
            let Some((run, place)) = fairest(candidates) else { break };
            let started = self.start_job(run, place);
            let failed = started == Err(Stop::Failed);
            self.or_forget(run, started)?;
            if failed {
                break;
            }
        }
        Ok(())
    }

    /// Starts a job: stored as running first, so that a crash in between is seen as a lost attempt.
    fn start_job(&mut self, number: i64, place: usize) -> Result<(), Stop> {
        let early = self.is(Mutant::StartsBeforeStoring);
        let Some(live) = self.server()?.runs.get_mut(&number) else { return Ok(()) };
        let JobState::Queued { attempt } = live.run.jobs[place].state else { return Ok(()) };
        let Some(Ok(workflows)) = workflow(live.workflow) else { return Ok(()) };
        let contexts = &contexts(None);
        let assignment = live.run.assignment(place, Ground { workflows, contexts });
        live.run.jobs[place].continue_on_error =
            assignment.is_ok_and(|assignment| assignment.continue_on_error);
        if live.run.start(place, attempt).is_err() {
            return Ok(());
        }
        let (id, job) = (live.jobs[place], live.run.jobs[place].clone());
        if early {
            self.machine.start(id, attempt.0);
        }
        self.write(|db, now| db.save_moves(number, &[(id, job)], None, None, now))?;
        if !early {
            self.machine.start(id, attempt.0);
        }
        let watched = Watched { run: number, job: id, attempt: attempt.0, taken: 0 };
        self.server()?.watched.push(watched);
        Ok(())
    }

    /// `loops/deliver`, in two steps: what happens while a report is on its way happens between them.
    pub(super) fn report(&mut self) -> Result<(), Stop> {
        self.go_on()?;
        let now = self.clock;
        if let Some((sha, context, report, answer)) = self.server()?.sent.take() {
            return self.note_answer(&(sha, context), &report, answer, now);
        }
        if self.server()?.next_write_at == 0 {
            let forgets = self.is(Mutant::ForgetsQuiet);
            let left = if forgets { 0 } else { self.db.quiet.left(now) };
            self.server()?.next_write_at = self.forge.now + left;
        }
        if self.forge.now < self.server()?.next_write_at {
            return Ok(());
        }
        let Some(key) = self.db.due_report(now, LONGEST_WAIT_MS) else { return Ok(()) };
        let Some(report) = self.db.reports.get(&key).cloned() else { return Ok(()) };
        if self.forge.now < self.known_quiet_until && !self.clock_was_set {
            self.break_law("GitHub was called although it asked to wait");
        }
        let Report { status, version, .. } = &report;
        let (state, version) = (status.state, *version);
        let shown = Shown { state, description: status.description.clone(), version };
        let answer = self.forge.set_status(key.clone(), shown);
        self.server()?.sent = Some((key.0, key.1, report, answer));
        Ok(())
    }

    fn note_answer(
        &mut self,
        key: &(Sha, String),
        sent: &Report,
        answer: Answer,
        now: i64,
    ) -> Result<(), Stop> {
        self.server()?.next_write_at = self.forge.now + BETWEEN_WRITES_MS;
        let mut sequel = sequel(answer, sent.failures, now);
        if self.is(Mutant::GivesUp) && answer == Answer::Passing {
            sequel.retry_at = Some(NEVER);
        }
        if let Some(until) = sequel.quiet_until {
            let quiet = Quiet { since: now, until };
            let at = self.forge.now + quiet.left(now);
            let server = self.server()?;
            server.next_write_at = server.next_write_at.max(at);
            self.write(|db, _| db.quiet = quiet)?;
            // Of what a server has not taken down before it was killed the next one cannot know.
            self.known_quiet_until = self.forge.quiet_until;
        }
        let newest = self.is(Mutant::MarksNewest);
        self.write(|db, _| {
            let Some(report) = db.reports.get_mut(key) else { return };
            match sequel.retry_at {
                None => {
                    let version = if newest { report.version } else { sent.version };
                    report.sent = report.sent.max(version);
                    report.failures = 0;
                }
                Some(at) if report.version == sent.version => {
                    report.failures += 1;
                    report.next_try_at = at;
                }
                Some(_) => {}
            }
        })
    }
}
