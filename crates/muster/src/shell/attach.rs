//! The side of whoever looks: their terminal becomes that of a program in the job, or what they pipe goes to it.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, bail};
use muster_sys::terminal::Size;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

use super::{Frame, MAX_FRAME, Wanted};

/// Of a terminal that does not say how large it is.
const USUAL: Size = Size { columns: 80, rows: 24 };
/// Who types this after a line's end leaves, whatever runs, as with SSH.
const ESCAPE: [u8; 2] = *b"~.";

/// Our terminal, in which what is typed goes on as it is. Dropping it makes it what it was.
struct Raw(Option<Termios>);

impl Raw {
    fn make() -> io::Result<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing can be done about a terminal that is gone.
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, before);
        }
    }
}

/// Starts a program in a job, without words a shell, and hands on what is typed and shown until it ends; returns its exit
/// code. It is on a terminal where our input is one, and where it is a shell.
///
/// # Errors
///
/// When it is refused, or the connection ends before it does.
pub(crate) async fn attach(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    words: Vec<String>,
) -> anyhow::Result<u8> {
    let (from, mut to) = tokio::io::split(connection);
    let Size { columns, rows } = size();
    let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let open = Frame::Open(Wanted { words, terminal, term, columns, rows }).bytes();
    if open.len() > MAX_FRAME {
        bail!("the arguments have more than {MAX_FRAME} bytes");
    }
    to.write_all(&open).await.context("the job is not kept any more")?;
    let [resized, terminated, hung_up] =
        [SignalKind::window_change(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let (mut terminated, mut hung_up) = (terminated?, hung_up?);
    let raw = terminal.then(Raw::make).transpose().context("cannot use this terminal")?;
    let (leave, mut left) = channel(1);
    let typed = typed(terminal.then_some(leave));
    // What is typed and what is shown do not wait for each other.
    let done = tokio::select! {
        done = show(from) => done,
        error = hand_on(to, typed, resized?) => Err(error),
        _ = terminated.recv() => Err(anyhow::anyhow!("muster shell was told to end")),
        _ = hung_up.recv() => Err(anyhow::anyhow!("the terminal is gone")),
        Some(()) = left.recv() => Err(anyhow::anyhow!("left, and what ran was ended")),
    };
    drop(raw);
    done
}

/// Shows what comes until the program has ended.
async fn show(mut from: impl AsyncRead + Unpin) -> anyhow::Result<u8> {
    let mut stdout = tokio::io::stdout();
    let (mut read, mut bytes) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let count = from.read(&mut bytes).await.context("the connection is lost")?;
        read.extend_from_slice(&bytes[..count]);
        while let Some(frame) = Frame::take(&mut read)? {
            match frame {
                Frame::Data(bytes) => stdout.write_all(&bytes).await?,
                Frame::Exit(code) => {
                    stdout.flush().await?;
                    return Ok(code);
                }
                Frame::Refused(why) => bail!("{why}"),
                Frame::Resize(_) | Frame::Open(_) | Frame::End | Frame::Eof => {}
            }
        }
        stdout.flush().await?;
        if count == 0 {
            bail!("the connection ended, and with it what ran");
        }
    }
}

/// Hands on what is typed, and how large the terminal is, for as long as there is somebody.
async fn hand_on(
    mut to: impl AsyncWrite + Unpin,
    mut typed: Receiver<Vec<u8>>,
    mut resized: Signal,
) -> anyhow::Error {
    let mut is_typing = true;
    loop {
        let frame = tokio::select! {
            some = typed.recv(), if is_typing => match some {
                Some(bytes) => Frame::Data(bytes),
                None => {
                    is_typing = false;
                    Frame::Eof
                }
            },
            _ = resized.recv() => Frame::Resize(size()),
        };
        if to.write_all(&frame.bytes()).await.is_err() {
            // Why, the other side says.
            std::future::pending::<()>().await;
        }
    }
}

/// Has a job kept no longer.
///
/// # Errors
///
/// When the connection ends before that is heard.
pub(crate) async fn end(mut connection: impl AsyncRead + AsyncWrite + Unpin) -> anyhow::Result<()> {
    connection.write_all(&Frame::End.bytes()).await.context("the job is not kept any more")?;
    let mut read = Vec::new();
    while !matches!(Frame::take(&mut read)?, Some(Frame::Exit(_))) {
        if connection.read_buf(&mut read).await.context("the connection is lost")? == 0 {
            bail!("the connection ended before it was heard");
        }
    }
    Ok(())
}

fn size() -> Size {
    let known = tcgetwinsize(io::stdin()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(USUAL, |size| Size { columns: size.ws_col, rows: size.ws_row })
}

/// Reads what is typed, on a thread that nobody waits for: it may wait for ever. `leave` hears of the escape.
fn typed(leave: Option<tokio::sync::mpsc::Sender<()>>) -> Receiver<Vec<u8>> {
    let (tell, told) = channel(16);
    std::thread::spawn(move || {
        let (mut bytes, mut escape) = ([0; 4 << 10], Escape::default());
        while let Ok(count @ 1..) = io::Read::read(&mut io::stdin().lock(), &mut bytes) {
            if let Some(leave) = &leave
                && escape.is_in(&bytes[..count])
            {
                let _ = leave.blocking_send(());
                break;
            }
            if tell.blocking_send(bytes[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    told
}

/// How much of the escape was typed: a line's end, and so many bytes of it.
#[derive(Debug)]
struct Escape(Option<usize>);

impl Default for Escape {
    fn default() -> Self {
        // Who begins begins a line.
        Self(Some(0))
    }
}

impl Escape {
    /// Returns whether it is whole with these bytes.
    fn is_in(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            self.0 = match self.0 {
                _ if matches!(byte, b'\r' | b'\n') => Some(0),
                Some(at) if ESCAPE[at] == *byte => Some(at + 1),
                _ => None,
            };
            if self.0 == Some(ESCAPE.len()) {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_says_so_after_a_lines_end() {
        let is_in = |all: &[&[u8]]| {
            let mut escape = Escape::default();
            all.iter().any(|bytes| escape.is_in(bytes))
        };
        assert!(is_in(&[b"~."]) && is_in(&[b"ls\r", b"~", b"."]));
        assert!(!is_in(&[b"ls ~."]) && !is_in(&[b"~x."]) && !is_in(&[b"\r~\r."]));
    }
}
