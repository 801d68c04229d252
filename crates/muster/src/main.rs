//! muster: a self-hosted CI server that runs GitHub Actions workflows.
//!
//! The program: command line, configuration, store, loops, HTTP and pages. Each folder of this
//! crate is one of these; the rules of CI live in `muster-core` and `muster-workflow`.

mod called;
mod cli;
mod config;
mod data;
mod env_file;
mod forge;
mod git;
mod http;
mod logs;
mod loops;
mod machine;
mod natives;
mod notices;
mod secrets;
mod server;
mod services;
mod shell;
mod store;
mod task;
mod token;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
