//! Whoever is told: takes webhooks over HTTP, and mail over SMTP.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A webhook as it came.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Its headers, by names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

#[derive(Debug, Default)]
struct Inner {
    hooks: Vec<Hook>,
    mails: Vec<String>,
    refusals: usize,
}

/// Takes what it is sent, once the refusals that it was asked for are over.
#[derive(Debug)]
pub struct Inbox {
    inner: Arc<Mutex<Inner>>,
    http: SocketAddr,
    smtp: SocketAddr,
}

impl Inbox {
    /// Starts it; the first `refusals` webhooks are answered 500.
    pub fn start(refusals: usize) -> Self {
        let inner = Arc::new(Mutex::new(Inner { refusals, ..Inner::default() }));
        let listen = |take: fn(&TcpStream, &Mutex<Inner>) -> Option<()>| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let inner = Arc::clone(&inner);
            std::thread::spawn(move || {
                // Ends with the test.
                for stream in listener.incoming().flatten() {
                    take(&stream, &inner);
                }
            });
            address
        };
        let (http, smtp) = (listen(take_hook), listen(take_mail));
        Self { inner, http, smtp }
    }

    /// Returns where webhooks go.
    pub fn url(&self) -> String {
        format!("http://{}/told", self.http)
    }

    /// Returns where mail goes.
    pub fn smtp(&self) -> String {
        format!("smtp://{}", self.smtp)
    }

    /// Returns the webhooks so far.
    pub fn hooks(&self) -> Vec<Hook> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).hooks.clone()
    }

    /// Returns the mails so far, with their headers.
    pub fn mails(&self) -> Vec<String> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).mails.clone()
    }
}

fn take_hook(stream: &TcpStream, inner: &Mutex<Inner>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => drop(headers.insert(name.to_lowercase(), value.to_owned())),
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = if inner.refusals > 0 {
        inner.refusals -= 1;
        "500 Internal Server Error"
    } else {
        inner.hooks.push(Hook { headers, body });
        "204 No Content"
    };
    write!(&*stream, "HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").ok()
}

fn take_mail(stream: &TcpStream, inner: &Mutex<Inner>) -> Option<()> {
    let say = |line: &str| write!(&*stream, "{line}\r\n").ok();
    say("220 inbox")?;
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    while let Some(Ok(line)) = lines.next() {
        match line.get(..4).unwrap_or(&line).to_uppercase().as_str() {
            "QUIT" => return say("221 bye"),
            "DATA" => {
                say("354 go on")?;
                let text: Vec<String> =
                    lines.by_ref().map_while(Result::ok).take_while(|line| line != ".").collect();
                let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
                inner.mails.push(text.join("\n"));
                drop(inner);
                say("250 taken")?;
            }
            _ => say("250 fine")?,
        }
    }
    None
}
