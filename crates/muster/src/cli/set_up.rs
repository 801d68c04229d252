//! `muster set-up`: what a step runs whose action sets up a tool that this machine has.
//!
//! A process of the job's own, in its sandbox: it can do no more than any other step.

use std::io;
use std::path::PathBuf;

use muster_runner::SetupOrder;

use super::stdio::read_file;
use super::{GREEN, RED, error_command, print};

/// The most bytes of an order.
const MOST_BYTES: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file that says what to set up.
    order: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let order: SetupOrder = serde_json::from_slice(&read_file(&arguments.order, MOST_BYTES)?)?;
    let done = match order.chosen {
        Some(_) => {
            muster_runner::set_up(&order, &mut io::stdout()).map_err(|why| error_command(&why))
        }
        None => match muster_runner::look(&order) {
            Ok(looked) => {
                print(serde_json::to_string(&looked)?);
                Ok(())
            }
            // Who asked says it.
            Err(why) => Err(why.to_string()),
        },
    };
    match done {
        Ok(()) => Ok(GREEN),
        Err(why) => {
            print(why);
            Ok(RED)
        }
    }
}
