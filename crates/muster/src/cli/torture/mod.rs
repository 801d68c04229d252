//! `muster torture`: what a server promises, tried on this machine and with this configuration.
//!
//! A second server, with a folder and a code host of its own, takes in pushes while it is killed again and
//! again, while webhooks come twice, late and without waiting for the answer, while the code host fails, and
//! while the disk fails. At the end all is counted.

mod ground;
mod host;
mod judge;
mod sender;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fastrand::Rng;
use muster_sys::clock;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{GREEN, RED, print, runtime, until_terminated};
use crate::config::Config;
use ground::{Ground, Push};
use host::Host;
use judge::{Facts, Log, Report};
use sender::Sender;

/// So many kills for each push.
const KILLS_A_PUSH: usize = 2;
/// The longest time between two kills, in milliseconds.
const CALM_MS: u64 = 400;
/// A server that makes no headway for so long stands still.
const STANDSTILL: Duration = Duration::from_secs(60);
/// How often it is looked whether all is told.
const LOOK: Duration = Duration::from_millis(100);
/// What a failing disk answers to the calls that a database is made of.
const DISK_FAULTS: [&str; 3] =
    ["fdatasync:error=EIO", "pwrite64:error=ENOSPC", "pwrite64:error=EIO"];
/// Each of them so often,
const EACH_FAULT: usize = 3;
/// at the first or one of the next so many calls of each thread: from the start of a server to its answers.
const DEEPEST: usize = 12;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file; its isolation, limits and kind of database are tried.
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    config: PathBuf,
    /// How often the server is killed.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// The seed of what happens when; a report names it.
    #[arg(long)]
    seed: Option<u64>,
    /// An empty PostgreSQL database to try instead of the configuration's, which is never touched.
    #[arg(long, value_name = "URL", env = "MUSTER_TORTURE_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// The folder to work in, which is removed afterwards; without one, beside the data folder.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Leave the folder there.
    #[arg(long)]
    keep: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let config = Config::load(&arguments.config)?;
    if config.database.is_some() && arguments.database.is_none() {
        bail!(
            "the configuration names a PostgreSQL database, which a torture must not touch: name an empty one \
             with --database or MUSTER_TORTURE_DATABASE"
        );
    }
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let runtime = runtime()?;
    let host = runtime.block_on(Host::start(Rng::with_seed(seed)))?;
    let pushes = arguments.kills.div_ceil(KILLS_A_PUSH).max(1);
    let disk = Disk::of(arguments);
    let faults = if matches!(disk, Disk::Tried) { DISK_FAULTS.len() * EACH_FAULT } else { 0 };
    say(&format!(
        "killing a server {} times, failing its disk {faults} times (seed {seed})",
        pushes * KILLS_A_PUSH
    ));
    let prepared = runtime.block_on(Ground::prepare(&config, arguments, &host, pushes + faults));
    let mut ground = prepared.context("cannot prepare the torture")?;
    let mut rng = Rng::with_seed(seed);
    let interrupted = until_terminated()?;
    let facts = torture(&mut ground, &host, &runtime, &mut rng, pushes, disk, &interrupted);
    let report = facts.map(|facts| Report::of(seed, facts));
    let held = report.as_ref().is_ok_and(Report::held);
    if let Some(kept) = ground.end(arguments.keep || !held) {
        say(&format!("what was tortured is kept in {}", kept.display()));
    }
    let report = report?;
    print(if arguments.json { report.json().to_string() } else { report.to_string() });
    Ok(if held { GREEN } else { RED })
}

/// Whether the disk is made to fail.
#[derive(Debug, Clone, Copy)]
enum Disk {
    Tried,
    /// It is not, and why.
    Left(&'static str),
}

impl Disk {
    fn of(arguments: &Arguments) -> Self {
        if arguments.database.is_some() {
            return Self::Left("PostgreSQL writes, not muster");
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        if std::env::split_paths(&path).any(|folder| folder.join("strace").is_file()) {
            Self::Tried
        } else {
            Self::Left("strace is not installed")
        }
    }
}

/// Does all of it, and returns what is there afterwards.
fn torture(
    ground: &mut Ground,
    host: &Host,
    runtime: &tokio::runtime::Runtime,
    rng: &mut Rng,
    pushes: usize,
    disk: Disk,
    told: &CancellationToken,
) -> anyhow::Result<Facts> {
    let mut facts = Facts { disk_left: disk.left(), ..Facts::default() };
    let disk_is_tried = facts.disk_left.is_none();
    ground.start(None)?;
    let repository = serde_json::json!({ "name": host::REPOSITORY });
    runtime.block_on(ground.client()?.post("/api/v1/repositories", &repository))?;
    let kept = ground.pushes.split_off(pushes);
    let sender = Sender::start(runtime, ground.hook()?, rng.fork(), ground.pushes.clone());
    for number in 0..pushes * KILLS_A_PUSH {
        std::thread::sleep(Duration::from_millis(rng.u64(0..CALM_MS)));
        // A supervisor too, but each job's first alone: three in a row end the job.
        facts.supervisors_killed += usize::from(number % 4 == 0 && ground.kill_supervisor());
        facts.ready_ms.push(ground.kill_and_start()?);
        if told.is_cancelled() {
            bail!("interrupted");
        }
    }
    facts.kills = pushes * KILLS_A_PUSH;
    facts.attempts = runtime.block_on(sender.all_are_answered(STANDSTILL))?;
    for (fault, push) in DISK_FAULTS.iter().cycle().zip(kept) {
        let fault = format!("{fault}:when={}", rng.usize(1..=DEEPEST));
        if told.is_cancelled() {
            bail!("interrupted");
        }
        facts.attempts += fail_the_disk(ground, runtime, rng, &fault, push, &mut facts)?;
    }
    say("waiting until the code host shows all verdicts");
    if disk_is_tried && facts.disk_faults == 0 {
        facts.disk_left = Some("strace is here, and may not trace");
    }
    settle(ground, host, told);
    runtime.block_on(gather(ground, host, &mut facts))?;
    ground.kill();
    facts.left_over = ground.leavings();
    Ok(facts)
}

/// Sends one push to a server whose disk fails, and sees that what it answered is there after a kill -9; returns in how
/// many attempts it was sent.
fn fail_the_disk(
    ground: &mut Ground,
    runtime: &tokio::runtime::Runtime,
    rng: &mut Rng,
    fault: &str,
    push: Push,
    facts: &mut Facts,
) -> anyhow::Result<usize> {
    ground.kill();
    // A server may fail before it can say that it is there.
    let started = ground.start(Some(fault)).is_ok();
    let hook = ground.hook()?;
    let answered = started && runtime.block_on(hook.send_once(&push));
    facts.disk_faults += usize::from(ground.wait_for_fault());
    facts.ready_ms.push(ground.kill_and_start()?);
    let rows = runtime.block_on(ground.client()?.newest("deliveries", usize::MAX))?;
    if answered && !rows.iter().any(|row| row["guid"] == push.delivery.as_str()) {
        facts.answered_and_lost.push(format!("{} ({fault})", push.delivery));
    }
    ground.pushes.push(push.clone());
    let sender = Sender::start(runtime, hook, rng.fork(), vec![push]);
    Ok(runtime.block_on(sender.all_are_answered(STANDSTILL))? + 1)
}

/// Waits until the code host shows the last word on each commit, or nothing moves any more.
fn settle(ground: &Ground, host: &Host, told: &CancellationToken) {
    let (mut writes, mut since) = (host.writes(), clock::monotonic());
    while !ground.pushes.iter().all(|push| host.is_final(&push.sha)) {
        if host.writes() != writes {
            (writes, since) = (host.writes(), clock::monotonic());
        }
        if since.elapsed() > STANDSTILL || told.is_cancelled() {
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Asks the server and the code host for all that is there.
async fn gather(ground: &Ground, host: &Host, facts: &mut Facts) -> anyhow::Result<()> {
    let client = ground.client()?;
    facts.told = ground.pushes.clone();
    facts.deliveries = client.newest("deliveries", usize::MAX).await?;
    facts.runs = client.newest("runs", usize::MAX).await?;
    for run in &facts.runs {
        let whole = client.get(&format!("/api/v1/runs/{}", run["id"])).await?;
        for job in whole["jobs"].as_array().into_iter().flatten() {
            let path = format!("/api/v1/jobs/{}/log", job["id"]);
            let text = client.send(reqwest::Method::GET, &path, None).await?.text().await?;
            facts.logs.push(Log { run: run["id"].clone(), text });
        }
    }
    (facts.shown, facts.writes, facts.impatient) = host.shown();
    Ok(())
}

impl Disk {
    fn left(self) -> Option<&'static str> {
        match self {
            Self::Tried => None,
            Self::Left(why) => Some(why),
        }
    }
}

/// Says what is going on, where no report is written to.
#[expect(clippy::print_stderr, reason = "this is the command line")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// Returns the text in a field of an answer; nothing where there is none.
fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}
