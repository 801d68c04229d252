//! The side of whoever looks: their terminal becomes that of a program in the job.

use std::io::{self, IsTerminal as _};

use anyhow::{Context as _, bail};
use muster_sys::terminal::Size;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

use super::{Frame, Wanted};

/// Of a terminal that does not say how large it is.
const USUAL: Size = Size { columns: 80, rows: 24 };

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

/// Starts a program in a job, without words a shell, and is its terminal until it ends; returns its exit code.
///
/// # Errors
///
/// When it is refused, or the connection ends before it does.
pub(crate) async fn attach(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    words: Vec<String>,
) -> anyhow::Result<u8> {
    let (mut from, mut to) = tokio::io::split(connection);
    let Size { columns, rows } = size();
    let term = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
    let open = Frame::Open(Wanted { words, term, columns, rows });
    to.write_all(&open.bytes()).await.context("the job is not kept any more")?;
    let mut resized = signal(SignalKind::window_change())?;
    let raw = Raw::make().context("cannot use this terminal")?;
    let mut typed = typed();
    let mut stdout = tokio::io::stdout();
    let (mut read, mut bytes) = (Vec::new(), vec![0; 16 << 10]);
    let mut is_typing = true;
    loop {
        tokio::select! {
            count = from.read(&mut bytes) => {
                let count = count.context("the connection is lost")?;
                read.extend_from_slice(&bytes[..count]);
                while let Some(frame) = Frame::take(&mut read)? {
                    match frame {
                        Frame::Data(bytes) => stdout.write_all(&bytes).await?,
                        Frame::Exit(code) => {
                            stdout.flush().await?;
                            return Ok(code);
                        }
                        Frame::Refused(why) => {
                            drop(raw);
                            bail!("{why}");
                        }
                        Frame::Resize(_) | Frame::Open(_) | Frame::End => {}
                    }
                }
                stdout.flush().await?;
                if count == 0 {
                    drop(raw);
                    bail!("the connection ended, and with it what ran");
                }
            }
            some = typed.recv(), if is_typing => match some {
                Some(bytes) => to.write_all(&Frame::Data(bytes).bytes()).await?,
                // The end of what is typed is a word to a terminal.
                None => {
                    is_typing = false;
                    to.write_all(&Frame::Data(vec![END_OF_INPUT]).bytes()).await?;
                }
            },
            _ = resized.recv() => to.write_all(&Frame::Resize(size()).bytes()).await?,
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

/// What a terminal takes for the end of the input: Ctrl-D.
const END_OF_INPUT: u8 = 4;

fn size() -> Size {
    let known = tcgetwinsize(io::stdin()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(USUAL, |size| Size { columns: size.ws_col, rows: size.ws_row })
}

/// Reads what is typed, on a thread that nobody waits for: it may wait for ever.
fn typed() -> Receiver<Vec<u8>> {
    let (tell, told) = channel(16);
    std::thread::spawn(move || {
        let mut bytes = [0; 4 << 10];
        while let Ok(count @ 1..) = io::Read::read(&mut io::stdin().lock(), &mut bytes) {
            if tell.blocking_send(bytes[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    told
}
