//! Pushes at a code host, and a count of what became of them.

use std::fs;
use std::path::PathBuf;

use muster_testkit::{FakeGitHub, SECRET};

use crate::database::Database;
use crate::scene::git_in;
use crate::server::Server;

const LINES: usize = 60;
/// What each commit runs, unless the story has it otherwise.
pub(crate) const CI: &str = "on: push\njobs:\n  count:\n    runs-on: linux\n    steps:\n      - run: for i in $(seq 1 60); do echo \"line $i\"; done\n";

/// A server beside GitHub, and commits there that nobody has told it of yet.
pub(crate) struct Ground {
    pub(crate) github: FakeGitHub,
    pub(crate) server: Server,
    repository: PathBuf,
    /// The commits that the server has been told of.
    pub(crate) told: Vec<String>,
}

impl Ground {
    pub(crate) fn new(database: Database) -> Self {
        let github = FakeGitHub::start();
        let repository = github.repository();
        fs::create_dir_all(&repository).unwrap();
        git_in(&repository, &["init", "--quiet", "--bare", "--initial-branch=main", "."]);
        let server = Server::start_without_repository(database, &github.config());
        assert_eq!(server.muster(&["repo", "add", "team/app"]).exit, Some(0));
        server.scene.workflow(CI);
        Self { github, server, repository, told: Vec::new() }
    }

    /// Makes a commit at GitHub; returns the webhook that tells of it.
    pub(crate) fn commit(&mut self) -> (String, Vec<u8>) {
        let number = self.told.len();
        self.server.scene.file("number", &number.to_string());
        let sha = self.server.scene.commit("Next");
        let refspec = format!("HEAD:refs/heads/topic-{number}");
        self.server.scene.git(&["push", "--quiet", &self.repository.to_string_lossy(), &refspec]);
        let payload = self.github.push(&format!("topic-{number}"), None, &sha, "Next");
        self.told.push(sha);
        (format!("crash-{number}"), payload.to_string().into_bytes())
    }

    pub(crate) fn send(&self, id: &str, body: &[u8]) -> Option<u16> {
        let (url, json) = (&self.server.url, "application/json");
        self.github.try_send(url, "push", id, json, body.to_vec(), Some(SECRET))
    }

    /// Starts the server again when it has died, and sends what was not answered.
    pub(crate) fn recover(&mut self, id: &str, body: &[u8], answered: bool) {
        if self.server.has_ended() {
            self.server.kill_and_serve();
        }
        if !answered {
            self.server.until("it is answered", |_| self.send(id, body) == Some(202));
        }
    }

    /// Sees that of all that was told nothing is lost and nothing doubled.
    pub(crate) fn all_is_well(&self) {
        let Self { github, server, told, .. } = self;
        let accepted = || server.deliveries().matches("accepted").count();
        server.until("all are judged", |_| accepted() == told.len());
        for sha in told {
            server.until_patiently("the verdict is at GitHub", |_| {
                github.shown(sha).lines().filter(|line| line.contains(" success: ")).count() == 2
            });
        }
        assert_eq!(accepted(), told.len(), "{}", server.deliveries());
        let runs = server.muster(&["runs", "--limit", "500"]).out;
        assert_eq!(runs.lines().count(), told.len(), "{runs}");
        for run in runs.lines().filter_map(|line| line.split(' ').next()) {
            let log = server.muster(&["log", run]).out;
            let lines: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("line ")).collect();
            assert!((1..=LINES).map(|line| line.to_string()).eq(lines), "run {run}: {log}");
        }
        assert_eq!(github.faults(), Vec::<String>::new());
    }
}
