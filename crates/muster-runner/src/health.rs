//! How a service is: what its image or the workflow says how to look is done in its container, by its init.
//!
//! Engines look by timers of their own: Docker not before an interval is over, which is half a minute where nobody says
//! another, and Podman only where systemd is. What is looked at here is found well at once when it is.

use std::time::Duration;

use bollard::models::HealthConfig;
use muster_sys::clock;
use muster_sys::process::{Happening, Program};
use muster_workflow::container::Health;

use crate::cancel::Cancel;
use crate::containers::Inmate;

/// What holds where nobody says anything else, as [Docker has it](https://docs.docker.com/reference/dockerfile/#healthcheck).
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
/// While a service begins it is looked at so often at least.
const LOOK: Duration = Duration::from_secs(1);
/// A service that is well is looked at once more after so long: some begin, with files to make, as another that ends.
const CONFIRM: Duration = Duration::from_secs(2);
/// So much of what a look has said is kept, in bytes.
const KEPT: usize = 4 << 10;

/// How to look at a service, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    words: Vec<String>,
    /// The time between two looks.
    rest: Duration,
    timeout: Duration,
    /// The time between two looks of an engine.
    interval: Duration,
    /// A service that is not well by then is not: as long as an engine would have looked, but for the looks themselves.
    within: Duration,
}

/// How a service was found.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// How long all looks took together.
    took: Duration,
    /// Whether it was well when it was looked at last.
    was_well: bool,
}

/// What is to be done about a service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: it is well.
    Well,
    /// It is to be looked at again, after so long.
    Wait(Duration),
    /// It is given up.
    GiveUp,
}

impl Check {
    /// Returns how a service is looked at; `None` where nobody says. What the workflow says goes before what the image does.
    pub(crate) fn of(wanted: Option<&Health>, image: Option<&HealthConfig>) -> Option<Self> {
        if wanted.is_some_and(|wanted| wanted.is_off) {
            return None;
        }
        let shell = |command: &str| ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
        let own = wanted.and_then(|wanted| wanted.command.as_deref()).map(shell);
        let of_image = || match image?.test.as_ref()?.split_first()? {
            (kind, [command]) if kind == "CMD-SHELL" => Some(shell(command)),
            (kind, words) if kind == "CMD" && !words.is_empty() => Some(words.to_vec()),
            _ => None,
        };
        let words = own.or_else(of_image)?;
        let of_both = [
            wanted.map(|w| [w.interval, w.timeout, w.start_period, w.retries]),
            image.map(|i| [i.interval, i.timeout, i.start_period, i.retries]),
        ];
        // Nothing, and zero, are what holds else.
        let said = |at: usize| {
            let said = of_both.iter().flatten().find_map(|of| of[at].filter(|number| *number > 0));
            said.map(i64::unsigned_abs)
        };
        let span = |at, else_| said(at).map_or(else_, Duration::from_nanos);
        let (interval, timeout) = (span(0, INTERVAL), span(1, TIMEOUT));
        let retries = said(3).map_or(RETRIES, |retries| u32::try_from(retries).unwrap_or(u32::MAX));
        let begins = span(2, Duration::ZERO);
        let within = begins.saturating_add(interval.saturating_mul(retries)).max(interval);
        Some(Self { words, rest: interval.min(LOOK), timeout, interval, within })
    }

    /// Looks once; returns what was said where it is not well.
    pub(crate) fn look(
        &self,
        inmate: &Inmate,
        workdir: &str,
        cancel: &Cancel,
    ) -> Result<(), String> {
        let program: Program = crate::containers::program(&self.words, workdir);
        let mut running = inmate.spawn(program).map_err(|error| error.to_string())?;
        let start = clock::monotonic();
        let mut said = Vec::new();
        loop {
            let left = self.timeout.saturating_sub(start.elapsed());
            // Also of one that writes without end.
            if left.is_zero() {
                running.kill();
                return Err(format!("no answer in {} s", self.timeout.as_secs()));
            }
            match running.next(cancel.wake(), Some(left)).map_err(|error| error.to_string())? {
                Happening::Output(bytes) => {
                    let room = KEPT.saturating_sub(said.len());
                    said.extend(bytes.iter().take(room));
                }
                Happening::Exited(status, _) if status.success() => return Ok(()),
                Happening::Exited(..) => return Err(String::from_utf8_lossy(&said).into_owned()),
                Happening::Woken => {
                    running.kill();
                    return Err("the job was told to stop".to_owned());
                }
                Happening::Nothing => {}
            }
        }
    }

    /// Decides what follows from a look that took so long, at a service that was begun so long ago.
    pub(crate) fn next(
        &self,
        looked: &mut Looked,
        is_well: bool,
        took: Duration,
        begun: Duration,
    ) -> Next {
        looked.took += took;
        let was_well = std::mem::replace(&mut looked.was_well, is_well);
        // An engine looks after an interval for the first time, and believes what it sees.
        if is_well && (was_well || begun >= self.interval) {
            return Next::Well;
        }
        if is_well {
            return Next::Wait(CONFIRM.min(self.interval));
        }
        if begun > self.within.saturating_add(looked.took) {
            Next::GiveUp
        } else {
            Next::Wait(self.rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_well_for_a_moment_is_looked_at_again() {
        let seconds = Duration::from_secs;
        let usual = Health { command: Some("x".into()), ..Health::default() };
        let check = Check::of(Some(&usual), None).unwrap();
        let mut looked = Looked::default();
        let mut next =
            |is_well, took, begun| check.next(&mut looked, is_well, seconds(took), seconds(begun));
        assert_eq!(next(false, 0, 1), Next::Wait(LOOK));
        assert_eq!(next(true, 0, 2), Next::Wait(CONFIRM));
        assert_eq!(next(false, 0, 4), Next::Wait(LOOK));
        assert_eq!(next(true, 0, 5), Next::Wait(CONFIRM));
        assert_eq!(next(true, 0, 7), Next::Well);
        // The time of looks that hang is nobody's fault.
        assert_eq!(next(false, 30, 91), Next::Wait(LOOK));
        assert_eq!(next(false, 0, 121), Next::GiveUp);
        let mut looked = Looked::default();
        assert_eq!(check.next(&mut looked, true, seconds(0), seconds(31)), Next::Well);
    }

    #[test]
    fn the_workflow_goes_before_the_image_and_both_before_what_is_usual() {
        let second = 1_000_000_000;
        let image = HealthConfig {
            test: Some(vec!["CMD".into(), "ready".into()]),
            interval: Some(2 * second),
            retries: Some(5),
            ..HealthConfig::default()
        };
        let of_image = Check::of(None, Some(&image)).unwrap();
        assert_eq!(of_image.words, ["ready"]);
        assert_eq!((of_image.rest, of_image.within), (LOOK, Duration::from_secs(10)));
        let wanted = Health {
            command: Some("test -e up".into()),
            interval: Some(second / 10),
            start_period: Some(second),
            ..Health::default()
        };
        let both = Check::of(Some(&wanted), Some(&image)).unwrap();
        assert_eq!(both.words, ["/bin/sh", "-c", "test -e up"]);
        assert_eq!(both.rest, Duration::from_millis(100));
        assert_eq!(both.within, Duration::from_millis(1500));
        let usual = Health { command: Some("x".into()), ..Health::default() };
        assert_eq!(Check::of(Some(&usual), None).unwrap().within, Duration::from_secs(90));
        let off = Health { is_off: true, ..Health::default() };
        assert_eq!(Check::of(Some(&off), Some(&image)), None);
        let none = HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() };
        assert_eq!(Check::of(None, Some(&none)), None);
        assert_eq!(Check::of(None, None), None);
    }
}
