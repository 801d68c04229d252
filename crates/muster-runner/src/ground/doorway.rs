//! The door of a network in which there is nothing else: what listens inside is answered from outside, where each connection
//! is carried on to the services for actions, or to a host that the job may reach, and to nothing else.

use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::Duration;

use muster_sys::clock;

use crate::egress::{self, Egress};
use crate::spec::{JobSpec, ServiceAccess};

/// How many connections a job has at once to the services, and where it reaches hosts, too.
const MOST: usize = 32;
const MOST_WITH_HOSTS: usize = 128;
/// How long the services have to answer the first.
const PATIENCE: Duration = Duration::from_secs(10);
/// After an error of the system it is tried again after so long.
const AGAIN: Duration = Duration::from_millis(100);
/// The port inside where there are no services, whose own it is else.
const PORT: u16 = 4568;

/// Where a door leads.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    services: Option<SocketAddr>,
    egress: Option<Arc<Egress>>,
}

impl Door {
    /// Makes that of a job, where there is something to go to.
    pub(crate) fn of(spec: &JobSpec) -> Option<Self> {
        let services = spec.private.services.as_ref().and_then(ServiceAccess::address);
        let egress = spec.cage().and_then(|cage| Egress::of(&cage.network)).map(Arc::new);
        (services.is_some() || egress.is_some()).then_some(Self { services, egress })
    }

    /// Says what of the world was reached through it, and what was refused; nothing where nothing was tried.
    pub(crate) fn told(&self) -> Option<String> {
        self.egress.as_ref().and_then(|egress| egress.told())
    }

    /// Returns the port at which it is, inside.
    pub(crate) fn port(&self) -> u16 {
        self.services.map_or(PORT, |services| services.port())
    }

    /// Returns the variables by which programs find it, where it leads to hosts.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (String, String)> + use<> {
        let proxy = self.egress.as_ref().map(|_| Egress::variables(self.port()));
        proxy.into_iter().flatten()
    }

    /// Answers on `listener` for as long as this process lives.
    ///
    /// # Errors
    ///
    /// When no thread can be started for it.
    pub(crate) fn keep(self, listener: TcpListener) -> io::Result<()> {
        let most = if self.egress.is_some() { MOST_WITH_HOSTS } else { MOST };
        let open = Arc::new(AtomicUsize::new(0));
        let accept = move || {
            loop {
                let inside = match listener.accept() {
                    Ok((inside, _)) => inside,
                    // What listens is gone with the network that it was in.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
                    Err(_) => {
                        std::thread::sleep(AGAIN);
                        continue;
                    }
                };
                // Closed at once where there are too many: its client tries again.
                let Some(place) = Place::take(&open, most) else { continue };
                let door = self.clone();
                let carry = move || {
                    // Who is cut off on one side is on the other, too; there is nobody to tell.
                    drop(door.carry(inside));
                    drop(place);
                };
                if Builder::new().name("doorway".into()).spawn(carry).is_err() {
                    std::thread::sleep(AGAIN);
                }
            }
        };
        Builder::new().name("doorway".into()).spawn(accept).map(drop)
    }

    /// Carries all that comes on one side to the other, until both have ended.
    fn carry(&self, mut inside: TcpStream) -> io::Result<()> {
        let Some((mut outside, first)) = self.open(&mut inside)? else { return Ok(()) };
        for stream in [&inside, &outside] {
            stream.set_nodelay(true)?;
        }
        outside.write_all(&first)?;
        // A descriptor for each side: a job may have many connections.
        let (inside, outside) = (Arc::new(inside), Arc::new(outside));
        let (from, to) = (Arc::clone(&inside), Arc::clone(&outside));
        let there = Builder::new().name("doorway".into()).spawn(move || pour(&from, &to))?;
        pour(&outside, &inside);
        drop(there.join());
        Ok(())
    }

    /// Finds out where to, and goes there; also returns what has come by then.
    fn open(&self, inside: &mut TcpStream) -> io::Result<Option<(TcpStream, Vec<u8>)>> {
        let mut come = Vec::new();
        if let Some(egress) = &self.egress {
            let until = clock::monotonic() + egress::PATIENCE;
            let is_for_a_proxy = loop {
                if let Some(known) = egress::is_for_a_proxy(&come) {
                    break known;
                }
                if egress::more(inside, &mut come, until)? == 0 {
                    break false;
                }
            };
            if is_for_a_proxy {
                return egress::serve(inside, come, egress, until);
            }
            inside.set_read_timeout(None)?;
        }
        let Some(services) = self.services else { return Ok(None) };
        Ok(Some((TcpStream::connect_timeout(&services, PATIENCE)?, come)))
    }
}

/// A place among those that there are for connections, until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        // Dropped it is given back, also where there was none.
        let place = Self(Arc::clone(open));
        (open.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn pour(mut from: &TcpStream, mut to: &TcpStream) {
    let poured = io::copy(&mut from, &mut to);
    drop(to.shutdown(Shutdown::Write));
    if poured.is_err() {
        drop(from.shutdown(Shutdown::Read));
    }
}
