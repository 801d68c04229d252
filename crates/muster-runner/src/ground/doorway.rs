//! The way from a sandbox without a network to the services for actions: what listens inside is answered from outside, where
//! each connection is carried on to them and to nothing else.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::Duration;

/// How many connections a job has at once.
const MOST: usize = 32;
/// How long the services have to answer the first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers on `listener` for as long as this process lives.
///
/// # Errors
///
/// When no thread can be started for it.
pub(crate) fn keep(listener: TcpListener, services: SocketAddr) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        while let Ok((inside, _)) = listener.accept() {
            let open = Arc::clone(&open);
            if open.fetch_add(1, Ordering::Relaxed) >= MOST {
                // Closed at once: its client tries again.
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let carry = move || {
                // Who is cut off on one side is on the other, too; there is nobody to tell.
                drop(carry(&inside, services));
                open.fetch_sub(1, Ordering::Relaxed);
            };
            if Builder::new().name("doorway".into()).spawn(carry).is_err() {
                break;
            }
        }
    };
    Builder::new().name("doorway".into()).spawn(accept).map(drop)
}

/// Carries all that comes on one side to the other, until both have ended.
fn carry(inside: &TcpStream, services: SocketAddr) -> io::Result<()> {
    let outside = TcpStream::connect_timeout(&services, PATIENCE)?;
    for stream in [inside, &outside] {
        stream.set_nodelay(true)?;
    }
    let (from, to) = (inside.try_clone()?, outside.try_clone()?);
    let there = Builder::new().name("doorway".into()).spawn(move || pour(&from, &to))?;
    pour(&outside, inside);
    drop(there.join());
    Ok(())
}

fn pour(mut from: &TcpStream, mut to: &TcpStream) {
    let poured = io::copy(&mut from, &mut to);
    drop(to.shutdown(Shutdown::Write));
    if poured.is_err() {
        drop(from.shutdown(Shutdown::Read));
    }
}
