//! kill -9, again and again, under load: every webhook, verdict and log byte is counted.
//!
//! `MUSTER_KILLS=200 cargo xtask test -- torture` does it two hundred times; without a word a few. `muster torture`
//! is the same for users, with a code host that is less strict and fails more often.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use muster_sys::process::Program;
use muster_testkit::{FakeGitHub, SECRET};

use crate::database::{Database, on_both};
use crate::scene::{Done, git_in};
use crate::server::{Server, kill, supervisors};

on_both! {
    nothing_is_lost_or_doubled,
    a_user_can_see_that_nothing_is_lost,
}

/// A commit for so many kills.
const KILLS_A_COMMIT: usize = 2;
const LINES: usize = 400;
const CI: &str = "on: push\njobs:\n  count:\n    runs-on: linux\n    steps:\n      - run: for i in $(seq 1 400); do echo \"line $i\"; test $((i % 40)) -gt 0 || sleep 0.05; done\n";

/// Numbers that only look random, so that a failure can be told again.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn nothing_is_lost_or_doubled(database: Database) {
    let kills = std::env::var("MUSTER_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let mut seeded = Seeded(kills as u64);
    let github = FakeGitHub::start();
    let repository = github.repository();
    std::fs::create_dir_all(&repository).unwrap();
    git_in(&repository, &["init", "--quiet", "--bare", "--initial-branch=main", "."]);
    let mut server = Server::start_without_repository(database, &github.config());
    assert_eq!(server.muster(&["repo", "add", "team/app"]).exit, Some(0));
    server.scene.workflow(CI);
    let commits: Vec<String> = (0..kills / KILLS_A_COMMIT)
        .map(|number| {
            server.scene.file("number", &number.to_string());
            let sha = server.scene.commit("Next");
            let refspec = format!("HEAD:refs/heads/topic-{number}");
            let to = repository.to_string_lossy().into_owned();
            server.scene.git(&["push", "--quiet", &to, &refspec]);
            sha
        })
        .collect();
    let github = Arc::new(github);
    let (next, turns) = channel();
    let sender = send_all(&github, &server.url, &commits, turns);
    for number in 0..kills {
        if number % KILLS_A_COMMIT == 0 {
            next.send(()).unwrap();
        }
        std::thread::sleep(Duration::from_millis(seeded.below(400)));
        if seeded.below(5) == 0 {
            // A supervisor too, but each job's first alone: three in a row end the job.
            let first = supervisors(&server.data()).into_iter().find(|(_, l)| l.contains(".1/job"));
            if let Some((pid, _)) = first {
                kill(&pid);
            }
        }
        server.kill_and_serve();
    }
    drop(next);
    let attempts = sender.join().unwrap();
    for (number, sha) in commits.iter().enumerate() {
        server.until_patiently("the verdict is at GitHub", |_| {
            github.shown(sha).lines().filter(|line| line.contains(" success: ")).count() == 2
        });
        assert_eq!(github.shown(sha).lines().count(), 2, "{}", github.shown(sha));
        let why = server.muster(&["why", sha]).out;
        assert_eq!(why.matches(".github/workflows/ci.yml ran").count(), 1, "{number}: {why}");
    }
    assert_eq!(github.faults(), Vec::<String>::new());
    let runs = server.muster(&["runs", "--limit", "500"]).out;
    assert_eq!(runs.lines().count(), commits.len(), "{runs}");
    // A number that was taken before the crash, for a run that was planned anew after it, is a gap.
    for run in runs.lines().filter_map(|line| line.split(' ').next()) {
        let done = server.muster(&["log", run]);
        let (log, error) = (done.out, done.err);
        let lines: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("line ")).collect();
        assert!(
            (1..=LINES).map(|line| line.to_string()).eq(lines),
            "run {run}: {error}\n{log}\n{runs}"
        );
    }
    // A webhook that was sent again had no answer, or was known already.
    let deliveries = server.deliveries();
    let taken = deliveries.lines().filter(|line| line.contains("accepted")).count();
    assert_eq!(taken, commits.len(), "{deliveries}");
    #[expect(clippy::print_stdout, reason = "the count is what this is for")]
    {
        let sent = commits.len();
        println!("{kills} kills, {sent} webhooks in {attempts} attempts: 0 lost, 0 doubled");
    }
}

fn a_user_can_see_that_nothing_is_lost(database: Database) {
    let folder = tempfile::tempdir().unwrap();
    let selected = database.config();
    std::fs::write(folder.path().join("muster.toml"), "isolation = \"none\"\n").unwrap();
    let run = |args: &[&str], url: Option<&str>| {
        let torture = Program::new(env!("CARGO_BIN_EXE_muster")).arg("torture").args(args);
        let torture = torture.dir(folder.path()).env("HOME", folder.path());
        let torture = torture.envs(url.map(|url| ("MUSTER_TORTURE_DATABASE", url)));
        Done::of(&torture.output(Duration::from_secs(300), 1 << 20).unwrap())
    };
    let url = selected.split('"').nth(1);
    let done = run(&["--kills", "4", "--seed", "7", "--json"], url);
    assert_eq!(done.exit, Some(0), "{}\n{}", done.out, done.err);
    let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let faults = if url.is_some() { 0 } else { 9 };
    assert_eq!(report["webhooks"]["there"], 2 + faults, "{report}");
    assert_eq!(report["verdicts"]["there"], 2 * (2 + faults), "{report}");
    assert_eq!(report["log_lines"]["there"], 400 * (2 + faults), "{report}");
    assert!(faults == 0 || report["disk_faults"].as_u64().unwrap() > 0, "{report}");
    // It has tidied up.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    if let Some(url) = url {
        let again = run(&["--kills", "1"], Some(url));
        assert!(again.err.contains("the database is not empty: it has "), "{}", again.err);
        std::fs::write(folder.path().join("muster.toml"), &selected).unwrap();
        let unnamed = run(&[], None);
        assert!(unnamed.err.contains("name an empty one with --database"), "{}", unnamed.err);
    }
}

/// Sends a webhook for each commit when its turn comes, each until it is answered 202.
fn send_all(
    github: &Arc<FakeGitHub>,
    url: &str,
    commits: &[String],
    turns: Receiver<()>,
) -> std::thread::JoinHandle<usize> {
    let (github, url, commits) = (Arc::clone(github), url.to_owned(), commits.to_vec());
    std::thread::spawn(move || {
        let mut attempts = 0;
        for (number, sha) in commits.iter().enumerate() {
            // After the last kill all that is left goes out.
            let _ = turns.recv();
            let payload = github.push(&format!("topic-{number}"), None, sha, "Next");
            let body = payload.to_string().into_bytes();
            let id = format!("torture-{number}");
            let mut sent = 0;
            // Each twice at least: GitHub, too, sends again what it holds for lost.
            while sent < 2 {
                attempts += 1;
                let json = "application/json";
                let answer = github.try_send(&url, "push", &id, json, body.clone(), Some(SECRET));
                sent += usize::from(answer == Some(202));
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        attempts
    })
}
