//! `muster hash-files`: what a step runs whose expressions call `hashFiles`.
//!
//! A process of the job's own, in its sandbox: it reads what the job's steps have written.

use std::path::PathBuf;

use muster_runner::HashOrder;

use super::stdio::read_file;
use super::{GREEN, RED, print};

/// The most bytes of an order.
const MOST_BYTES: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file that says what to hash.
    order: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let order: HashOrder = serde_json::from_slice(&read_file(&arguments.order, MOST_BYTES)?)?;
    match muster_runner::hash_files(&order) {
        Ok(hash) => {
            print(hash);
            Ok(GREEN)
        }
        Err(error) => {
            print(error);
            Ok(RED)
        }
    }
}
