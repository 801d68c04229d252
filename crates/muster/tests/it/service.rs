//! muster as a service: its units, a restart that nobody notices, and whether it is well.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use insta::assert_snapshot;
use muster_sys::process::Program;
use muster_testkit::{FakeGitHub, SECRET, sign};

use crate::database::{Database, on_both};
use crate::scene::Scene;
use crate::server::Server;

on_both! { what_waits_is_counted }

/// Holds a socket as systemd does, and a server on it; a line on its input starts the server anew.
const HOLDER: &str = r#"
import os, signal, socket, subprocess, sys
program, config = sys.argv[1:]
held = socket.socket(); held.bind(("127.0.0.1", 0)); held.listen(512)
os.dup2(held.fileno(), 3)
start = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" serve --config "$1"'
def serve():
    return subprocess.Popen(["sh", "-c", start, program, config], pass_fds=(3,), stdout=subprocess.DEVNULL)
server = serve()
print(held.getsockname()[1], flush=True)
for line in sys.stdin:
    server.send_signal(signal.SIGTERM); server.wait(); server = serve()
    print("again", flush=True)
server.send_signal(signal.SIGTERM); server.wait()
"#;

/// Sends a webhook over a connection of its own; returns whether it was taken.
fn is_taken(port: u16, id: &str) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok_and(|stream| is_taken_over(stream, id))
}

/// Sends a webhook over a connection that is there; returns whether it was taken.
fn is_taken_over(mut stream: TcpStream, id: &str) -> bool {
    let body = r#"{"zen":"Keep it logically awesome."}"#;
    let request = format!(
        "POST /webhooks/github HTTP/1.1\r\nHost: muster\r\nConnection: close\r\n\
         X-GitHub-Event: ping\r\nX-GitHub-Delivery: {id}\r\nContent-Type: application/json\r\n\
         X-Hub-Signature-256: {}\r\nContent-Length: {}\r\n\r\n{body}",
        sign(SECRET, body.as_bytes()),
        body.len()
    );
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 202")
}

#[test]
fn a_restart_fails_no_webhook() {
    let github = FakeGitHub::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("muster.toml");
    std::fs::write(&config, format!("isolation = \"none\"\n{}", github.config())).unwrap();
    let mut holder = Program::new("python3")
        .args(["-c", HOLDER, env!("CARGO_BIN_EXE_muster")])
        .arg(&config)
        .env("HOME", folder.path())
        .converse()
        .unwrap();
    let mut said = BufReader::new(holder.output);
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    // Nothing is restarted before both send.
    let begun = Arc::new(Barrier::new(3));
    let senders: Vec<_> = (0..2)
        .map(|sender| {
            let (over, begun) = (Arc::clone(&over), Arc::clone(&begun));
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                let mut sent = 0;
                begun.wait();
                loop {
                    let id = format!("restart-{sender}-{sent}");
                    sent += 1;
                    if !is_taken(port, &id) {
                        failed.push(id);
                    }
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
                (sent, failed)
            })
        })
        .collect();
    begun.wait();
    for _ in 0..3 {
        holder.input.write_all(b"again\n").unwrap();
        line.clear();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "again\n");
    }
    over.store(true, Ordering::Relaxed);
    for sender in senders {
        let (sent, failed) = sender.join().unwrap();
        assert!(failed.is_empty(), "{} of {sent}: {failed:?}", failed.len());
    }
    drop(holder.input);
    holder.child.wait().unwrap();
}

#[test]
fn who_has_just_connected_is_heard_by_a_server_that_ends() {
    let github = FakeGitHub::start();
    let mut server = Server::start(Database::Sqlite, &github.config());
    let port = server.url.rsplit_once(':').unwrap().1.parse().unwrap();
    let silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // They are accepted in the order in which they came.
    assert!(is_taken(port, "first"));
    let pid = rustix::process::Pid::from_raw(server.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    server.until("it takes nobody else", |_| TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(is_taken_over(silent, "late"));
    server.until("the server has ended", Server::has_ended);
    server.serve_again();
    server.until("both are judged", |server| !server.deliveries().contains("pending"));
    assert_snapshot!(server.deliveries(), @"
    1 ping ignored: a ping says only that the hook works
    2 ping ignored: a ping says only that the hook works
    ");
}

#[test]
fn the_units_are_written_where_they_are_wanted() {
    let scene = Scene::new();
    let done =
        scene.muster(&["service", "install", "--into", "units", "--config", "/srv/muster.toml"]);
    assert_snapshot!(done.story(), @"
    wrote units/muster.socket
    wrote units/muster.service
    exit 0
    ");
    let socket = std::fs::read_to_string(scene.path().join("units/muster.socket")).unwrap();
    assert!(socket.contains("\nListenStream=127.0.0.1:4567\n"), "{socket}");
    let service = std::fs::read_to_string(scene.path().join("units/muster.service")).unwrap();
    for line in ["User=muster", "KillMode=process", "NoNewPrivileges=yes", "ProtectSystem=strict"] {
        assert!(service.lines().any(|one| one == line), "{service}");
    }
    assert!(service.contains(" serve --config /srv/muster.toml\n"), "{service}");
    let gone = scene.muster(&["service", "uninstall", "--into", "units"]);
    assert_eq!(gone.exit, Some(0), "{}", gone.err);
    assert_eq!(std::fs::read_dir(scene.path().join("units")).unwrap().count(), 0);
}

fn what_waits_is_counted(database: Database) {
    let server = Server::start(database, "");
    assert_eq!(server.get("/readyz"), "ready\n");
    server.workflow("on: push\njobs:\n  slow:\n    runs-on: linux\n    steps: [{run: 'until test -e GATE; do sleep 0.01; done'}]\n");
    let sha = server.push("main", "Slow");
    server.until("it runs", |server| server.get("/metrics").contains("muster_jobs_running 1"));
    assert!(server.get("/metrics").contains("muster_backlog{state=\"jobs_queued\"} 0"));
    server.open_gate();
    server.verdict(&sha);
    server.until("it is over", |server| server.get("/metrics").contains("muster_jobs_running 0"));
}
