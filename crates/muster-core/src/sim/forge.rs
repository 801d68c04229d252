//! The code host of the simulated world: what people do there, and what it is told.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::{Change, Commit, GitRef, Person, PullRequest, PullRequestAction};
use crate::id::Sha;
use crate::outbox::Answer;
use crate::report::State;

/// A webhook on its way.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub(super) guid: u32,
    pub(super) body: u32,
    pub(super) change: Change,
}

#[derive(Debug, Clone)]
pub(super) struct Pull {
    pub(super) number: i64,
    pub(super) head: Sha,
    pub(super) open: bool,
    pub(super) from_fork: bool,
    /// The body of the last webhook of it.
    pub(super) last: u32,
}

/// What it shows of a context.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) state: State,
    pub(super) description: String,
    /// Which version of the report it was: the code host does not know, the laws do.
    pub(super) version: i64,
}

/// How it answers a call that goes wrong.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// It asks to wait.
    Limit(i64),
    /// It fails, without doing anything.
    Fails,
    /// It does what was asked, and the answer is lost.
    AnswerLost,
    Refuses,
    NeverTakes,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Forge {
    /// Its own clock, in milliseconds; nobody sets it.
    pub(super) now: i64,
    /// Which workflow each commit has.
    workflows: BTreeMap<Sha, usize>,
    /// The commits of each branch, the oldest first.
    branches: BTreeMap<String, Vec<Sha>>,
    pub(super) pulls: Vec<Pull>,
    bodies: u32,
    guids: u32,
    pub(super) flying: Vec<Flight>,
    /// What was answered or lost, and can be sent again.
    pub(super) landed: Vec<Flight>,
    pub(super) shown: BTreeMap<(Sha, String), Shown>,
    /// What it has said that it will never take.
    pub(super) refused: BTreeSet<(Sha, String)>,
    trouble: Vec<Trouble>,
    /// How many more fetches fail.
    pub(super) unreachable: u32,
    /// Until when it wants to hear nothing.
    pub(super) quiet_until: i64,
}

const BRANCHES: [&str; 2] = ["main", "topic"];

impl Forge {
    pub(super) fn new(now: i64) -> Self {
        Self { now, ..Self::default() }
    }

    fn commit(&mut self, workflow: usize) -> Sha {
        let name = format!("{:040x}", self.workflows.len() + 1);
        let sha = Sha::parse(&name).unwrap_or_else(|error| unreachable!("{error}"));
        self.workflows.insert(sha.clone(), workflow);
        sha
    }

    /// Returns which workflow a commit has.
    pub(super) fn workflow_of(&self, sha: &Sha) -> usize {
        self.workflows.get(sha).copied().unwrap_or_default()
    }

    /// Returns where a branch is.
    pub(super) fn branch_at(&self, git_ref: &GitRef) -> Option<&Sha> {
        self.branches.get(git_ref.short())?.last()
    }

    /// Returns whether a commit comes before another on some branch.
    pub(super) fn is_ancestor(&self, older: &Sha, newer: &Sha) -> bool {
        let place = |commits: &[Sha], of: &Sha| commits.iter().position(|sha| sha == of);
        self.branches.values().any(|commits| match (place(commits, older), place(commits, newer)) {
            (Some(older), Some(newer)) => older < newer,
            _ => false,
        })
    }

    fn tell(&mut self, change: Change) -> u32 {
        self.bodies += 1;
        let body = self.bodies;
        self.fly(body, change);
        body
    }

    /// Sends a webhook under a new id.
    fn fly(&mut self, body: u32, change: Change) {
        self.guids += 1;
        self.flying.push(Flight { guid: self.guids, body, change });
    }

    /// Sends one that landed before again: under its own id, or, now and then, under another.
    pub(super) fn send_again(&mut self, which: usize) {
        if self.landed.is_empty() {
            return;
        }
        let flight = self.landed[which % self.landed.len()].clone();
        if which.is_multiple_of(5) {
            self.fly(flight.body, flight.change);
        } else {
            self.flying.push(flight);
        }
    }

    pub(super) fn push(&mut self, branch: usize, workflow: usize) {
        let name = BRANCHES[branch % BRANCHES.len()];
        let sha = self.commit(workflow);
        let commits = self.branches.entry(name.to_owned()).or_default();
        let before = commits.last().cloned();
        commits.push(sha.clone());
        let head = Commit {
            sha,
            message: String::new(),
            author_name: String::new(),
            author_email: String::new(),
            timestamp: String::new(),
        };
        let git_ref = GitRef::Branch(name.to_owned());
        self.tell(Change::Push { git_ref, before, head, forced: false, sender: None });
    }

    pub(super) fn open(&mut self, from_fork: bool, workflow: usize) {
        let number = i64::try_from(self.pulls.len()).unwrap_or_default() + 1;
        let head = self.commit(workflow);
        self.pulls.push(Pull { number, head, open: true, from_fork, last: 0 });
        self.tell_of_pull(self.pulls.len() - 1, PullRequestAction::Opened);
    }

    pub(super) fn move_head(&mut self, pull: usize, workflow: usize) {
        let open: Vec<usize> =
            (0..self.pulls.len()).filter(|place| self.pulls[*place].open).collect();
        if open.is_empty() {
            return;
        }
        let place = open[pull % open.len()];
        self.pulls[place].head = self.commit(workflow);
        self.tell_of_pull(place, PullRequestAction::Synchronize);
    }

    pub(super) fn touch(&mut self, pull: usize) {
        let open: Vec<usize> =
            (0..self.pulls.len()).filter(|place| self.pulls[*place].open).collect();
        if !open.is_empty() {
            self.tell_of_pull(open[pull % open.len()], PullRequestAction::ReadyForReview);
        }
    }

    pub(super) fn toggle(&mut self, pull: usize) {
        if self.pulls.is_empty() {
            return;
        }
        let place = pull % self.pulls.len();
        let pull = &mut self.pulls[place];
        pull.open = !pull.open;
        let action =
            if pull.open { PullRequestAction::Reopened } else { PullRequestAction::Closed };
        self.tell_of_pull(place, action);
    }

    fn tell_of_pull(&mut self, place: usize, action: PullRequestAction) {
        let pull = self.pulls[place].clone();
        let bo = Person { id: Some(7), login: "bo".to_owned() };
        let change = Change::PullRequest(PullRequest {
            number: pull.number,
            action,
            title: String::new(),
            draft: false,
            // GitHub's times have seconds.
            updated_at: format!("{:012}", self.now / 1000),
            author: bo.clone(),
            sender: bo,
            head: pull.head.clone(),
            head_ref: "topic".to_owned(),
            from_fork: pull.from_fork,
            base: pull.head,
            base_ref: "main".to_owned(),
        });
        self.pulls[place].last = self.tell(change);
    }

    /// Makes the next calls fail.
    pub(super) fn be_troubled(&mut self, kind: u32) {
        let trouble = match kind % 8 {
            0 | 1 => Trouble::Limit(i64::from(kind) * 1_000),
            2 | 3 => Trouble::Fails,
            4 | 5 => Trouble::AnswerLost,
            6 => Trouble::Refuses,
            _ => Trouble::NeverTakes,
        };
        self.trouble.extend([trouble; 2]);
    }

    pub(super) fn recover(&mut self) {
        self.trouble.clear();
        self.unreachable = 0;
    }

    /// Sets a commit status.
    pub(super) fn set_status(&mut self, key: (Sha, String), shown: Shown) -> Answer {
        if self.now < self.quiet_until {
            return Answer::Limited { wait_ms: self.quiet_until - self.now };
        }
        let trouble = self.trouble.pop();
        if let Some(Trouble::Limit(wait_ms)) = trouble {
            self.quiet_until = self.quiet_until.max(self.now + wait_ms);
            return Answer::Limited { wait_ms };
        }
        match trouble {
            Some(Trouble::Fails) => return Answer::Passing,
            Some(Trouble::Refuses) => return Answer::Refused,
            Some(Trouble::NeverTakes) => {
                self.refused.insert(key);
                return Answer::Never;
            }
            _ => drop(self.shown.insert(key, shown)),
        }
        if trouble.is_some() { Answer::Passing } else { Answer::Taken { more_at: None } }
    }
}
