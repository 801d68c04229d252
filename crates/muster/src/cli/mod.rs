//! The command line: one file a command, and what they share.

mod backup;
mod checkout;
mod client;
mod conformance;
mod deliveries;
mod demo;
mod dispatch;
mod doctor;
mod eval;
mod filter;
mod hash_files;
mod init;
mod lint;
mod plan;
mod repo;
mod restore;
mod run;
mod runs;
mod secrets;
mod serve;
mod service;
mod set_up;
mod shell;
mod stdio;
mod supervise;
mod torture;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use muster_sys::signal;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use stdio::{complain, json_of, lines, print_json, read_file, read_json, read_start};
pub(crate) use stdio::{print, print_raw};

/// Exit codes that every command shares: green, red, cannot run.
pub(crate) const GREEN: u8 = 0;
pub(crate) const RED: u8 = 1;
pub(crate) const CANNOT_RUN: u8 = 2;

/// A self-hosted CI server that runs GitHub Actions workflows.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the workflows of this work tree here and now, uncommitted changes included.
    Run(Box<run::Arguments>),
    /// Show muster at work: a small project, a server, a red verdict and a green one.
    Demo(demo::Arguments),
    /// Write a configuration, make the admin token, or install the hook in a local repository.
    Init(init::Arguments),
    /// Check that everything is there that a server needs.
    Doctor(doctor::Arguments),
    /// Run the server.
    Serve(serve::Arguments),
    /// Say which repositories the server watches.
    Repo(repo::Arguments),
    /// List runs.
    Runs(runs::ListArguments),
    /// Show the log of a run's jobs.
    Log(runs::LogArguments),
    /// Cancel a run.
    Cancel(runs::CancelArguments),
    /// Ask for a workflow that has `workflow_dispatch` in its `on`.
    Dispatch(dispatch::Arguments),
    /// Run a finished run again.
    Rerun(runs::RerunArguments),
    /// List webhooks and what became of them, show one, or have it judged once more.
    Deliveries(deliveries::Arguments),
    /// List verdicts and notices that have still to be told, or are given up.
    Outbox(runs::OutboxArguments),
    /// Let a stranger's commit run, which waits for it.
    Approve(runs::ApproveArguments),
    /// End the shadow of a repository: its jobs report under their own names.
    Adopt(runs::AdoptArguments),
    /// Look around in a job that has failed, where its step was.
    Shell(shell::Arguments),
    /// List what people have done.
    Audit(runs::AuditArguments),
    /// Say why a run or a commit stands where it stands.
    Why(runs::WhyArguments),
    /// Keep secrets for jobs on the server.
    Secrets(secrets::SecretsArguments),
    /// Keep variables for jobs on the server.
    Vars(secrets::VarsArguments),
    /// Copy the database and the logs, while the server runs.
    Backup(backup::Arguments),
    /// Put a backup in the place of what is there, while no server runs.
    Restore(restore::Arguments),
    /// Kill a second server on this machine again and again, and count what is lost.
    Torture(torture::Arguments),
    /// Make muster a service of systemd, or end that.
    Service(service::Arguments),
    /// Say what is wrong with workflow files.
    Lint(lint::Arguments),
    /// Say what of workflow files would run for an event, or whether GitHub would take a file.
    Plan(plan::Arguments),
    /// Evaluate an expression of a workflow file.
    Eval(eval::Arguments),
    /// Say what filters of branches, tags and paths let through.
    Filter(filter::Arguments),
    /// Answer a case of a conformance suite.
    #[command(hide = true)]
    Conformance(conformance::Arguments),
    /// Run one job for the server or for `run` (used by muster itself).
    #[command(hide = true)]
    Supervise(supervise::Arguments),
    /// Check a commit out, as a step of a job (used by muster itself).
    #[command(hide = true)]
    Checkout(checkout::Arguments),
    /// Set up a tool that this machine has, as a step of a job (used by muster itself).
    #[command(hide = true)]
    SetUp(set_up::Arguments),
    /// Hash files for an expression of a job (used by muster itself).
    #[command(hide = true)]
    HashFiles(hash_files::Arguments),
}

/// Says why a step has failed as a command of its log, on one line.
fn error_command(why: &impl std::error::Error) -> String {
    let text = why.to_string().replace('%', "%25").replace('\r', "%0D");
    format!("::error::{}", text.replace('\n', "%0A"))
}

/// Does what the command line says and returns the exit code.
pub(crate) fn main() -> ExitCode {
    // Fails where it was done before, which is as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Repo(arguments) => repo::run(&arguments),
        Command::Runs(arguments) => runs::list(&arguments),
        Command::Log(arguments) => runs::log(&arguments),
        Command::Cancel(arguments) => runs::cancel(&arguments),
        Command::Rerun(arguments) => runs::rerun(&arguments),
        Command::Dispatch(arguments) => dispatch::run(&arguments),
        Command::Deliveries(arguments) => deliveries::run(&arguments),
        Command::Outbox(arguments) => runs::outbox(&arguments),
        Command::Approve(arguments) => runs::approve(&arguments),
        Command::Adopt(arguments) => runs::adopt(&arguments),
        Command::Shell(arguments) => shell::run(&arguments),
        Command::Audit(arguments) => runs::audit(&arguments),
        Command::Why(arguments) => runs::why(&arguments),
        Command::Secrets(arguments) => secrets::secrets(&arguments),
        Command::Vars(arguments) => secrets::vars(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Restore(arguments) => restore::run(&arguments),
        Command::Torture(arguments) => torture::run(&arguments),
        Command::Service(arguments) => service::run(&arguments),
        Command::Lint(arguments) => lint::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Filter(arguments) => filter::run(&arguments),
        Command::Conformance(arguments) => conformance::run(&arguments),
        Command::Supervise(arguments) => supervise::run(&arguments),
        Command::Checkout(arguments) => checkout::run(&arguments),
        Command::SetUp(arguments) => set_up::run(&arguments),
        Command::HashFiles(arguments) => hash_files::run(&arguments),
    };
    let exit = done.unwrap_or_else(|error| {
        complain(&error);
        CANNOT_RUN
    });
    match stdio::flushed() {
        Err(error) => {
            complain(&error);
            ExitCode::from(CANNOT_RUN)
        }
        Ok(()) => ExitCode::from(exit),
    }
}

/// Makes what a server runs on, and opens its log: on standard error, as `MUSTER_LOG` says.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let filter = EnvFilter::try_from_env("MUSTER_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Returns what is cancelled once the program is told to end.
fn until_terminated() -> anyhow::Result<CancellationToken> {
    let told = CancellationToken::new();
    let tell = told.clone();
    signal::on_termination(move |name, _| {
        tracing::info!(signal = name, "ending");
        tell.cancel();
    })
    .context("cannot listen to signals")?;
    Ok(told)
}
