//! `muster supervise`: one job in a process of its own.
//!
//! Reads the job from a file, its orders from standard input (`secrets JSON` first, then `cancel REASON`; the end of the
//! input is an order too), and writes its spool to standard output. It adopts all that its steps leave
//! behind and kills it before it ends.

use std::fs::{self, File};
use std::io::{self, BufRead};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use muster_runner::spec::{JobSpec, Private};
use muster_runner::{Cancel, Finished, Kept, spool};
use muster_sys::{files, signal, tree};

use super::GREEN;
use crate::git::Actions;
use crate::shell;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file to touch when the spool has grown.
    #[arg(long)]
    nudge: Option<PathBuf>,
    /// The file that describes the job.
    spec: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let at = || format!("cannot read the job from {}", arguments.spec.display());
    let text = fs::read(&arguments.spec).with_context(at)?;
    let mut spec: JobSpec = serde_json::from_slice(&text).with_context(at)?;
    spec.private = private().context("cannot read the job's secrets")?;
    tree::adopt_orphans().context("cannot adopt what the job leaves behind")?;
    let cancel = Cancel::new().context("cannot prepare for a cancellation")?;
    let on_signal = cancel.clone();
    signal::on_termination(move |name, _| on_signal.request(&format!("muster got {name}")))?;
    let on_order = cancel.clone();
    let is_kept = Arc::new(AtomicBool::new(false));
    let kept = Arc::clone(&is_kept);
    std::thread::Builder::new()
        .name("orders".into())
        .spawn(move || follow_orders(&on_order, &kept))?;
    let mut actions = Actions::of(&spec);
    let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut spool =
        spool::Writer::new(out, arguments.nudge.clone()).context("cannot write the spool")?;
    // Without a result this attempt is a lost one, and another is made.
    let Finished { result, kept } = muster_runner::run(&spec, &cancel, &mut actions, &mut spool)
        .context("the disk failed the job")?;
    is_kept.store(kept.is_some(), Ordering::Relaxed);
    spool.finish(&result).context("cannot write the spool")?;
    if let Some(kept) = kept {
        let after = Duration::from_secs(spec.keep_s.unwrap_or_default());
        keep(kept, &spec, after, arguments.nudge.is_none()).context("cannot keep the job")?;
    }
    Ok(GREEN)
}

/// Keeps a job that has failed, for people to look around in it. Of one of `muster run` nobody else cares by then.
fn keep(kept: Kept, spec: &JobSpec, after: Duration, is_alone: bool) -> anyhow::Result<()> {
    if !is_alone {
        return Ok(shell::keep(kept, &spec.folder, after, || {})?);
    }
    // The end of our outputs is the end of the job for who reads them; it comes when others can come.
    let let_go = || {
        let nowhere = File::options().write(true).open("/dev/null");
        if let Ok(nowhere) = nowhere {
            let _ = rustix::stdio::dup2_stdout(&nowhere);
            let _ = rustix::stdio::dup2_stderr(&nowhere);
        }
    };
    shell::keep(kept, &spec.folder, after, let_go)?;
    files::remove_tree(&spec.folder)?;
    // The last that has to do with the run takes its folder away.
    if let Some(run) = spec.folder.parent()
        && shell::hold_run(run).is_ok()
        && !shell::kept_below(run)
    {
        files::remove_tree(run)?;
    }
    Ok(())
}

/// Reads the first order.
fn private() -> anyhow::Result<Private> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let text = line.strip_prefix("secrets ").context("the first order is not `secrets`")?;
    serde_json::from_str(text).context("they are garbled")
}

fn follow_orders(cancel: &Cancel, is_kept: &AtomicBool) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if let Some(reason) = line.strip_prefix("cancel ") {
            cancel.request(reason);
        }
    }
    // A job that is over and kept needs nobody any more.
    if !is_kept.load(Ordering::Relaxed) {
        cancel.request("who started the job is gone");
    }
}
