//! Signals to this process.

use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `react` on a thread of its own for each SIGINT, SIGTERM and SIGHUP, with the signal's
/// name and how many came before.
///
/// # Errors
///
/// When the handlers cannot be installed.
pub fn on_termination(react: impl Fn(&'static str, usize) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for (before, signal) in signals.forever().enumerate() {
            let name = match signal {
                SIGINT => "SIGINT",
                SIGTERM => "SIGTERM",
                _ => "SIGHUP",
            };
            react(name, before);
        }
    })?;
    Ok(())
}
