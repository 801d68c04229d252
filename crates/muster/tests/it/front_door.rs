//! The front door: what is forged, malformed, slow or too much.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use muster_sys::clock;
use muster_testkit::{FakeGitHub, SECRET, sign};
use serde_json::Value as Json;

use crate::database::Database;
use crate::forged::{Forged, Must, forged};
use crate::server::Server;

/// An answer, or the end of the connection, comes in this time.
const ANSWER: Duration = Duration::from_secs(12);

fn server_beside(github: &FakeGitHub) -> Server {
    let server = Server::start_without_repository(Database::Sqlite, &github.config());
    assert_eq!(server.muster(&["repo", "add", "team/app"]).exit, Some(0));
    server
}

/// Writes a request; returns the status of the answer, if there was one.
fn ask(server: &Server, request: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    stream.set_write_timeout(Some(ANSWER)).unwrap();
    // It may be cut off in the middle; what counts is the answer.
    drop(stream.write_all(request));
    let (start, mut answer) = (clock::monotonic(), Vec::new());
    let mut buffer = [0; 4096];
    while start.elapsed() < ANSWER {
        let count = stream.read(&mut buffer).unwrap_or(0);
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer);
        let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
        let line = text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "));
        let status = line.and_then(|rest| rest.get(..3)?.parse().ok());
        if status.is_some() {
            return status;
        }
        if count == 0 {
            return None;
        }
    }
    panic!("neither an answer nor an end after {} s", ANSWER.as_secs());
}

/// Returns the webhooks that are stored, once all are judged.
fn stored(server: &Server) -> (u64, Vec<Json>) {
    let mut listed = Json::Null;
    server.until("all are judged", |server| {
        listed = serde_json::from_str(&server.get("/api/v1/deliveries")).unwrap();
        let all = listed["deliveries"].as_array().unwrap();
        all.iter().all(|one| one["outcome"] != "pending")
    });
    let all = listed["deliveries"].as_array().unwrap().clone();
    (listed["total"].as_u64().unwrap(), all)
}

/// Returns what is wrong with how a forged request was taken.
fn judge(server: &Server, forged: &Forged) -> Option<String> {
    let (before, _) = stored(server);
    let start = clock::monotonic();
    let status = ask(server, &forged.request);
    let took = start.elapsed();
    let (after, all) = stored(server);
    let refused = |allowed: &[u16]| status.is_some_and(|status| allowed.contains(&status));
    let right = match forged.must {
        Must::Refuse(allowed) => refused(allowed) && after == before,
        Must::RefuseOrCutOff(allowed) => (refused(allowed) || status.is_none()) && after == before,
        Must::Store(word, text) => {
            let newest = all.last().unwrap_or(&Json::Null);
            let reason = newest["reason"].as_str().unwrap_or_default();
            let as_it_must = newest["outcome"] == word && reason.contains(text);
            status == Some(202) && after == before + 1 && as_it_must
        }
    };
    let wrong = || {
        let newest = all.last().map(ToString::to_string).unwrap_or_default();
        let Forged { name, must, .. } = forged;
        format!(
            "{name}: must be {must:?}, was {status:?} after {took:?}, {before} > {after}: {newest}"
        )
    };
    if right { None } else { Some(wrong()) }
}

#[test]
fn what_is_forged_is_refused_or_stored_with_the_reason() {
    let github = FakeGitHub::start();
    let server = server_beside(&github);
    let all = forged(&|body| sign(SECRET, body));
    assert!(all.len() >= 50);
    let wrong: Vec<String> = all.iter().filter_map(|forged| judge(&server, forged)).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    honest_ones_are_answered(&github, &server);
    assert_eq!(github.faults(), Vec::<String>::new());
}

/// An honest webhook is answered at once.
fn honest_ones_are_answered(github: &FakeGitHub, server: &Server) {
    let start: Instant = clock::monotonic();
    let ping = serde_json::json!({"zen": "Keep it logically awesome."});
    assert_eq!(github.deliver(&server.url, "ping", &ping), 202);
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}

/// Returns how many callers this process can be at once, and a server have: ten thousand, or what its descriptors
/// allow.
fn silent_callers() -> u64 {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    most.map_or(10_000, |most| most.saturating_sub(512).min(10_000))
}

/// Who connects and says nothing, or never comes to an end, keeps nobody else out, and is cut off.
#[test]
fn who_says_nothing_keeps_nobody_out() {
    let github = FakeGitHub::start();
    let server = server_beside(&github);
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let silent: Vec<TcpStream> = (0..silent_callers())
        .map(|number| {
            let mut stream = TcpStream::connect(&address).unwrap();
            if number % 2 == 0 {
                stream.write_all(b"POST /webhooks/github HTTP/1.1\r\nHost: muster\r\nX-").unwrap();
            }
            stream
        })
        .collect();
    honest_ones_are_answered(&github, &server);
    for mut stream in silent {
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        let mut said = Vec::new();
        // Cut off, with a word or without.
        let ended = stream.read_to_end(&mut said);
        let timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!ended.as_ref().is_err_and(timed_out), "it is still connected");
    }
    honest_ones_are_answered(&github, &server);
}
