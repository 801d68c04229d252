//! A server beside a fake GitHub: idle, start, intake, first step, restart.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use muster_sys::clock;
use muster_sys::process::Program;
use muster_testkit::{FakeGitHub, SECRET};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::run::git;
use super::{Figure, Target, quantile};

const LIMIT: Duration = Duration::from_secs(60);
/// Offered webhooks a second, for so long; a body has about 10 KiB.
const RATE: u64 = 500;
const SECONDS: u64 = 5;
const BODY: usize = 10 * 1024;
/// Connections that send as fast as they can.
const SENDERS: usize = 32;
const FIRST_STEPS: usize = 21;

struct Bench {
    muster: PathBuf,
    github: FakeGitHub,
    folder: TempDir,
    token: String,
    url: String,
    child: Child,
    start_ms: f64,
}

pub(super) fn figures(muster: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut bench = Bench::start(muster)?;
    let mut figures = vec![
        Figure::new("server start", bench.start_ms, "ms", Target::AtMost(100.0)),
        Figure::new("idle server, resident", bench.resident_mib()?, "MiB", Target::AtMost(30.0))
            .rival("Laminar 9, Woodpecker 130"),
        Figure::new("binary", mib(std::fs::metadata(muster)?.len()), "MiB", Target::AtMost(40.0)),
    ];
    figures.extend(bench.first_steps()?);
    figures.extend(bench.intake()?);
    bench.child.kill()?;
    bench.child.wait()?;
    let (child, url, ready) = serve(muster, bench.folder.path())?;
    (bench.child, bench.url) = (child, url);
    figures.push(Figure::new("ready again after kill -9", ready, "ms", Target::AtMost(2000.0)));
    bench.fill()?;
    bench.child.kill()?;
    bench.child.wait()?;
    let (child, url, ready) = serve(muster, bench.folder.path())?;
    (bench.child, bench.url) = (child, url);
    let figure = Figure::new("ready again, 1 GiB database", ready, "ms", Target::AtMost(2000.0));
    figures.push(figure);
    let resident = bench.resident_mib()?;
    figures.push(Figure::new("then resident", resident, "MiB", Target::AtMost(30.0)));
    bench.child.kill()?;
    bench.child.wait()?;
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "sizes far below 2^53")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// Starts the server and reads where it listens; returns how long that took.
fn serve(muster: &Path, folder: &Path) -> anyhow::Result<(Child, String, f64)> {
    let start = clock::monotonic();
    let talk = Program::new(muster)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .dir(folder)
        .env("HOME", folder)
        .env("MUSTER_LOG", "off")
        .converse()?;
    let mut line = String::new();
    BufReader::new(talk.output).read_line(&mut line)?;
    let took = start.elapsed().as_secs_f64() * 1000.0;
    let url = line.trim().strip_prefix("muster at ").context("the server does not start")?;
    Ok((talk.child, url.to_owned(), took))
}

impl Bench {
    fn start(muster: &Path) -> anyhow::Result<Self> {
        let github = FakeGitHub::start();
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("muster.toml"), github.config())?;
        std::fs::create_dir_all(github.repository())?;
        git(&github.repository(), &["init", "--quiet", "--bare", "--initial-branch=main", "."])?;
        let init = Program::new(muster).arg("init").dir(folder.path()).output(LIMIT, 1 << 20)?;
        let said = String::from_utf8_lossy(&init.stdout).into_owned();
        let token = said.split_whitespace().find(|word| word.starts_with("muster_"));
        let token = token.context("muster init shows no token")?.to_owned();
        let (child, url, start_ms) = serve(muster, folder.path())?;
        let muster = muster.to_owned();
        let bench = Self { muster, github, folder, token, url, child, start_ms };
        bench.muster(&["repo", "add", "team/app"])?;
        Ok(bench)
    }

    fn muster(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = Program::new(&self.muster)
            .args(args)
            .env("MUSTER_URL", &self.url)
            .env("MUSTER_TOKEN", &self.token)
            .output(LIMIT, 1 << 20)?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        Ok(mib(kib.context("no VmRSS")? * 1024))
    }

    /// Measures from the answer to a push until its first step runs, with a warm mirror.
    fn first_steps(&self) -> anyhow::Result<Vec<Figure>> {
        let work = tempfile::tempdir()?;
        let work = work.path();
        git(work, &["init", "--quiet", "--initial-branch=main", "."])?;
        std::fs::create_dir_all(work.join(".github/workflows"))?;
        let text = "on: push\njobs:\n  a: {runs-on: ubuntu-latest, steps: [{run: echo hello}]}\n";
        std::fs::write(work.join(".github/workflows/ci.yml"), text)?;
        let origin = self.github.repository().to_string_lossy().into_owned();
        let mut times = Vec::new();
        for round in 0..FIRST_STEPS {
            std::fs::write(work.join("round"), round.to_string())?;
            git(work, &["add", "--all"])?;
            git(work, &["commit", "--quiet", "--message", "Round"])?;
            git(work, &["push", "--quiet", &origin, "main"])?;
            let sha = git(work, &["rev-parse", "HEAD"])?;
            let status = self.github.deliver(
                &self.url,
                "push",
                &self.github.push("main", None, &sha, "Round"),
            );
            anyhow::ensure!(status == 202, "a webhook was answered {status}");
            let answered = clock::now_ms();
            let started = self.first_step_of(round + 1)?;
            #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
            times.push((started - answered) as f64);
        }
        // The first one fills the mirror.
        times.remove(0);
        Ok(vec![
            Figure::new(
                "webhook to first step, p50",
                quantile(&mut times, 0.5),
                "ms",
                Target::AtMost(60.0),
            )
            .rival("polling rivals 1-10 s"),
            Figure::new(
                "webhook to first step, p95",
                quantile(&mut times, 0.95),
                "ms",
                Target::AtMost(150.0),
            ),
        ])
    }

    /// Waits until the run has ended, and returns when its first step started.
    fn first_step_of(&self, run: usize) -> anyhow::Result<i64> {
        let start = clock::monotonic();
        loop {
            if let Ok(answer) = self.get(&format!("/api/v1/runs/{run}"))
                && answer["status"] == "completed"
            {
                let started = answer["jobs"][0]["steps"][1]["started_at"].as_i64();
                return started.context("no first step");
            }
            anyhow::ensure!(start.elapsed() < LIMIT, "run {run} does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let request = muster_testkit::http_client().build()?.get(format!("{}{path}", self.url));
            Ok(request.bearer_auth(&self.token).send().await?.error_for_status()?.json().await?)
        })
    }

    /// Offers webhooks at a fixed rate, then as many as go; counts what is stored.
    fn intake(&self) -> anyhow::Result<Vec<Figure>> {
        let before = self.stored()?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let sender = Sender {
            http: muster_testkit::http_client().build()?,
            url: format!("{}/webhooks/github", self.url),
        };
        let sender = Arc::new(sender);
        let offered = RATE * SECONDS;
        let mut times = runtime.block_on(open_loop(Arc::clone(&sender), offered));
        let accepted = times.len() as u64;
        let (most, seconds) = runtime.block_on(closed_loop(sender, "closed"));
        let lost = (accepted + most).saturating_sub(self.stored()? - before);
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let (rate, lost, unanswered) =
            (most as f64 / seconds, lost as f64, (offered - accepted) as f64);
        Ok(vec![
            Figure::new("webhooks stored a second", rate, "/s", Target::AtLeast(2000.0)),
            Figure::new(
                "webhook answered at 500/s, p50",
                quantile(&mut times, 0.5),
                "ms",
                Target::AtMost(5.0),
            ),
            Figure::new(
                "webhook answered at 500/s, p99",
                quantile(&mut times, 0.99),
                "ms",
                Target::AtMost(50.0),
            ),
            Figure::new(
                "webhook answered at 500/s, max",
                quantile(&mut times, 1.0),
                "ms",
                Target::AtMost(1000.0),
            ),
            Figure::new("webhooks refused at 500/s", unanswered, "", Target::AtMost(0.0)),
            Figure::new("webhooks lost", lost, "", Target::AtMost(0.0)),
        ])
    }

    /// Sends webhooks until the database has a gibibyte. The server is in the middle of it when this ends.
    fn fill(&self) -> anyhow::Result<()> {
        let database = self.folder.path().join("muster-data/muster.db");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let mut round = 0;
        while std::fs::metadata(&database)?.len() < 1 << 30 {
            round += 1;
            let sender = Sender {
                http: muster_testkit::http_client().build()?,
                url: format!("{}/webhooks/github", self.url),
            };
            let (taken, _) =
                runtime.block_on(closed_loop(Arc::new(sender), &format!("fill{round}")));
            anyhow::ensure!(taken > 0, "the server takes nothing any more");
        }
        Ok(())
    }

    /// Returns how many webhooks are stored.
    fn stored(&self) -> anyhow::Result<u64> {
        let listed = self.get("/api/v1/deliveries")?;
        listed["total"].as_u64().context("no total")
    }
}

struct Sender {
    http: reqwest::Client,
    url: String,
}

impl Sender {
    /// Sends one webhook that is stored and starts nothing; returns whether it was taken.
    async fn send(&self, id: String) -> bool {
        let filler = "x".repeat(BODY);
        let body =
            json!({"action": "started", "id": id, "filler": filler}).to_string().into_bytes();
        let request = self
            .http
            .post(&self.url)
            .header("x-github-event", "watch")
            .header("x-github-delivery", id)
            .header("content-type", "application/json")
            .header("x-hub-signature-256", muster_testkit::sign(SECRET, &body));
        request.body(body).send().await.is_ok_and(|answer| answer.status() == 202)
    }
}

/// Sends at the offered rate, whatever the answers take; returns the times of those that were taken.
async fn open_loop(sender: Arc<Sender>, count: u64) -> Vec<f64> {
    let start = tokio::time::Instant::from_std(clock::monotonic());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..count {
        let due = start + Duration::from_micros(number * 1_000_000 / RATE);
        tokio::time::sleep_until(due).await;
        let sender = Arc::clone(&sender);
        tasks.spawn(async move {
            let taken = sender.send(format!("open-{number}")).await;
            // What waits to be sent is late too.
            (taken, (clock::monotonic() - due.into_std()).as_secs_f64() * 1000.0)
        });
    }
    let answers = tasks.join_all().await;
    answers.into_iter().filter(|(taken, _)| *taken).map(|(_, time)| time).collect()
}

/// Sends as fast as some connections can; returns how many were taken, and the seconds.
async fn closed_loop(sender: Arc<Sender>, name: &str) -> (u64, f64) {
    let start = clock::monotonic();
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..SENDERS {
        let (sender, name) = (Arc::clone(&sender), format!("{name}-{connection}"));
        tasks.spawn(async move {
            let mut taken = 0_u64;
            let mut number = 0_u64;
            while start.elapsed() < Duration::from_secs(SECONDS) {
                taken += u64::from(sender.send(format!("{name}-{number}")).await);
                number += 1;
            }
            taken
        });
    }
    let taken = tasks.join_all().await.into_iter().sum();
    (taken, start.elapsed().as_secs_f64())
}
