//! What of the world jobs reach: all, nothing, or the hosts that are named.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use insta::assert_snapshot;

use crate::database::{Database, on_both};
use crate::engine::{IMAGE, engine};
use crate::github::Story;
use crate::images::{small, there_can_be_roots};
use crate::sandbox::there_can_be_one;
use crate::scene::Scene;
use crate::server::Server;

on_both! {
    an_approved_strangers_job_reaches_what_the_owner_has_named,
}

/// A host on this machine's loopback that says what it was asked for; returns its port.
fn host() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<String> =
                    lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let head = head.join(" | ");
                let length = head.len() + 1;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{head}\n");
                drop(stream.write_all(answer.as_bytes()));
            });
        }
    });
    port
}

/// Asks the proxy that the variables name, as programs do: `ask REQUEST-LINE [FIRST-IN-A-TUNNEL]`. BusyBox and bash alike.
fn ask(host: u16, other: u16) -> String {
    format!(
        r#"
          at=${{http_proxy#http://127.0.0.1:}}
          ask() {{ {{ printf '%s HTTP/1.1\r\nhost: x\r\n\r\n' "$1"; [ -z "${{2-}}" ] || printf '%s HTTP/1.1\r\n\r\n' "$2"; }} |
            busybox nc 127.0.0.1 $at | tr -d '\r' | sed 's/{host}/PORT/g; s/{other}/OTHER/g' | grep -v '^$' | grep -v content-; }}
          ask "GET http://localhost:{host}/whole?x"
          ask "CONNECT localhost:{host}" "GET /tunnel"
          ask "CONNECT localhost:{other}"
          ask "GET http://127.0.0.1:{host}/"
          ask "POST ftp://localhost:{host}/"
          busybox nc -w 1 127.0.0.1 {host} </dev/null && echo reached || echo nothing else is there
"#
    )
}

#[test]
fn a_job_reaches_the_hosts_that_are_named_and_nothing_else() {
    if !there_can_be_one() {
        return;
    }
    let (port, other) = (host(), host());
    let scene = Scene::new();
    let allowed = format!("localhost:{port}");
    let run = |job: &str, more: &[&str], variables: &[(&str, &str)]| {
        let script = ask(port, other);
        scene.workflow(&format!(
            "on: push\njobs:\n  a:\n{job}    steps:\n      - shell: sh {{0}}\n        name: Ask\n        run: |{script}"
        ));
        scene.commit("changed");
        let args = ["run", "--isolation", "sandbox", "--allow-host", &allowed];
        let args = [&args, more].concat();
        let done = scene.muster_with(&args, variables);
        let told =
            done.story().replace(&port.to_string(), "PORT").replace(&other.to_string(), "OTHER");
        let told = told.lines().filter(|line| !line.starts_with("isolation: "));
        told.collect::<Vec<_>>().join("\n")
    };
    let sandbox = run("    runs-on: ubuntu-latest\n", &[], &[]);
    assert_snapshot!(sandbox, @"
    .github/workflows/ci.yml
    ▸ Ask
    │ HTTP/1.1 200 OK
    │ GET /whole?x HTTP/1.1 | host: localhost:PORT | connection: close
    │ HTTP/1.1 200 Connection established
    │ HTTP/1.1 200 OK
    │ GET /tunnel HTTP/1.1
    │ HTTP/1.1 403 Forbidden
    │ connection: close
    │ muster: localhost:OTHER is not among the hosts that this job may reach (`[sandbox] network`, `--allow-host`)
    │ HTTP/1.1 403 Forbidden
    │ connection: close
    │ muster: 127.0.0.1:PORT is not among the hosts that this job may reach (`[sandbox] network`, `--allow-host`)
    │ HTTP/1.1 400 Bad Request
    │ connection: close
    │ muster: only http:// goes through a proxy as it is; all else by CONNECT
    │ nc: can't connect to remote host (127.0.0.1): Connection refused
    │ nothing else is there
    ✓ Ask [time]
    │ Network: reached localhost:PORT; refused 127.0.0.1:PORT, localhost:OTHER
    .github/workflows/ci.yml: success
      a  success  [time]
    exit 0
    ");
    if there_can_be_roots() {
        let image = format!("small={}", small().display());
        assert_eq!(run("    runs-on: small\n", &["--image", &image], &[]), sandbox);
    }
    if let Some(engine) = engine() {
        let (name, socket) = engine.variable();
        let job = format!("    runs-on: ubuntu-latest\n    container: '{IMAGE}'\n");
        let contained = run(&job, &[], &[(name, &socket)]);
        let is_told = |line: &&str| {
            !line.starts_with("│ Pulling ") && !line.contains("is taken as it is here")
        };
        let contained: Vec<&str> = contained.lines().filter(is_told).collect();
        assert_eq!(contained.join("\n"), sandbox);
    }
}

#[test]
fn what_is_no_network_is_refused_with_the_reason() {
    let scene = Scene::new();
    scene.commit_empty();
    let wrong = |args: &[&str]| scene.muster(args).err;
    assert_snapshot!(wrong(&["run", "--allow-host", "https://crates.io"]), @"
    error: invalid value 'https://crates.io' for '--allow-host <HOST>': `https://crates.io`: that is no host and port; write HOST, *.DOMAIN, or either with :PORT

    For more information, try '--help'.
    ");
    assert_snapshot!(wrong(&["run", "--allow-host", "*.com"]), @"
    error: invalid value '*.com' for '--allow-host <HOST>': `*.com`: that is no domain of somebody's; write HOST, *.DOMAIN, or either with :PORT

    For more information, try '--help'.
    ");
    let told = [
        "\"some\"",
        "{ approved = \"open\" }",
        "{ strangers = \"none\" }",
        "[\"a b\"]",
        "{ member = [1] }",
    ]
    .map(|network| {
        scene.file("muster.toml", &format!("[sandbox]\nnetwork = {network}\n"));
        scene.muster(&["serve"]).story()
    });
    assert_snapshot!(told.join("\n"), @r#"
    error: muster.toml cannot be used: TOML parse error at line 2, column 11
      |
    2 | network = "some"
      |           ^^^^^^
    a network is "open", "none", or a list of hosts
    exit 2
    error: muster.toml cannot be used: TOML parse error at line 2, column 11
      |
    2 | network = { approved = "open" }
      |           ^^^^^^^^^^^^^^^^^^^^^
    `approved` is of those who may not push: name hosts, or "none"
    exit 2
    error: muster.toml cannot be used: TOML parse error at line 2, column 11
      |
    2 | network = { strangers = "none" }
      |           ^^^^^^^^^^^^^^^^^^^^^^
    `strangers` is no trust: `approved`, `member` or `protected`
    exit 2
    error: muster.toml cannot be used: TOML parse error at line 2, column 11
      |
    2 | network = ["a b"]
      |           ^^^^^^^
    `a b`: that is no name of a host; write HOST, *.DOMAIN, or either with :PORT
    exit 2
    error: muster.toml cannot be used: TOML parse error at line 2, column 11
      |
    2 | network = { member = [1] }
      |           ^^^^^^^^^^^^^^^^
    a network is "open", "none", or a list of hosts
    exit 2
    "#);
}

fn an_approved_strangers_job_reaches_what_the_owner_has_named(database: Database) {
    if !there_can_be_one() {
        return;
    }
    let port = host();
    let config = format!(
        "isolation = \"auto\"\n[sandbox]\nnetwork = {{ approved = [\"localhost:{port}\"] }}\n"
    );
    let story = Story::start_in(database, &config);
    let script = ask(port, 1);
    story.server.scene.workflow(&format!(
        "on: pull_request\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - shell: sh {{0}}\n        run: |{script}"
    ));
    let head = story.approved_fork();
    assert_snapshot!(story.verdict(&head), @"
    muster success: 1 successful
    muster / a success: Successful
    ");
    let log = |server: &Server| server.muster(&["log", "1"]).out.replace(&port.to_string(), "PORT");
    let log = log(&story.server);
    let told: Vec<&str> = log.lines().filter(|line| line.starts_with("Network: ")).collect();
    assert_snapshot!(told.join("\n"), @"Network: reached localhost:PORT; refused 127.0.0.1:PORT, localhost:1");
    assert!(log.contains("GET /tunnel"), "{log}");
}
