//! Artifacts and caches in a bucket instead of in a folder, by a server that speaks like S3.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use insta::assert_snapshot;
use muster_sys::clock;

use crate::database::{Database, on_both};
use crate::kept::Kept;
use crate::server::Server;
use crate::services::{clients, said, with_clients};

on_both! {
    artifacts_and_caches_are_kept_in_a_bucket,
}

/// The server is up within this time.
const BEGINNING: Duration = Duration::from_secs(60);

/// Starts the storage, once, with a bucket; returns where it is. `None`, which is said, where it is not installed.
fn storage() -> Option<&'static str> {
    static STORAGE: OnceLock<Option<(Kept, String)>> = OnceLock::new();
    let storage = STORAGE.get_or_init(|| {
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/pypi");
        let there = packages.join("moto").is_dir();
        assert!(there || std::env::var_os("CI").is_none(), "the storage is not installed");
        let packages = packages.canonicalize().ok().filter(|_| there)?;
        // Free until somebody else takes it.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = format!("PYTHONPATH={}", packages.display());
        let port_text = port.to_string();
        let command =
            ["env", &path, "python3", "-m", "moto.server", "-H", "127.0.0.1", "-p", &port_text];
        let kept = Kept::start(Kept::folder(), "KILL", &command.map(str::to_owned));
        let start = clock::monotonic();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(kept.folder.join("log")).unwrap_or_default();
            assert!(start.elapsed() < BEGINNING, "the storage does not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some((kept, format!("http://127.0.0.1:{port}")))
    });
    if storage.is_none() {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: there is no storage, which `cargo xtask test` installs");
        }
    }
    storage.as_ref().map(|(_, url)| &**url)
}

/// Asks the storage, as whoever; returns what it says.
fn ask(method: reqwest::Method, url: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let request = muster_testkit::http_client().build().unwrap().request(method, url);
        request.send().await.unwrap().text().await.unwrap()
    })
}

fn artifacts_and_caches_are_kept_in_a_bucket(database: Database) {
    let (Some(storage), Some(bundle)) = (storage(), clients()) else { return };
    // One for each story.
    let bucket = format!("bucket-{database:?}").to_lowercase();
    ask(reqwest::Method::PUT, &format!("{storage}/{bucket}"));
    let secret = "an-access-key-nobody-sees";
    let folder = tempfile::tempdir().unwrap();
    let credentials = folder.path().join("s3.env");
    let opens = format!("AWS_ACCESS_KEY_ID=key\nAWS_SECRET_ACCESS_KEY={secret}\n");
    fs::write(&credentials, opens).unwrap();
    let config = format!(
        "[storage]\nurl = \"s3://{bucket}/of/ci\"\nendpoint = \"{storage}\"\ncredentials_file = \"{}\"\n",
        credentials.display()
    );
    let mut server = Server::start(database, &config);
    let doctor = server.muster(&["doctor"]).out;
    let told = doctor.lines().find(|line| line.contains("storage")).unwrap_or(&doctor);
    assert!(told.contains("ok") && told.ends_with(&format!("s3://{bucket}/of/ci")), "{doctor}");
    with_clients(&server.scene, bundle);
    server.workflow(
        "on: push\nenv: {GITHUB_SERVER_URL: 'http://muster.localhost'}\njobs:\n  make:\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - run: mkdir out; seq 3000000 > out/large; echo tiny > out/small\n\
         \x20     - {uses: ./clients, with: {do: upload first}}\n\
         \x20     - {uses: ./clients, with: {do: save key-1}}\n\
         \x20 take:\n    needs: make\n    runs-on: ubuntu-latest\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - {uses: ./clients, with: {do: download first}}\n\
         \x20     - {uses: ./clients, with: {do: restore key-none}}\n\
         \x20     - run: 'echo \"said: $(cmp out/large got/large && tail -1 out/large)\"'\n",
    );
    let sha = server.push("main", "first");
    server.verdict(&sha);
    assert_snapshot!(said(&server.muster(&["log", "1"]).out), @"
    said: first has an id: true, a size: true, a digest: 64
    said: true
    said: first
    said: digest differs: false, small is tiny
    said: key-1
    said: 3000000
    ");
    // They are there, and nowhere else; a server that is started anew has them.
    let listed = ask(reqwest::Method::GET, &format!("{storage}/{bucket}?list-type=2"));
    assert!(
        listed.contains("<Key>of/ci/artifacts/") && listed.contains("<Key>of/ci/caches/"),
        "{listed}"
    );
    for folder in ["artifacts", "caches"] {
        assert_eq!(fs::read_dir(server.data().join(folder)).map_or(0, Iterator::count), 0);
    }
    server.kill_and_serve();
    let zip = server.get("/runs/1/artifacts/first");
    assert!(zip.starts_with("PK"), "{}", zip.chars().take(200).collect::<String>());
    assert!(!(doctor + &server.muster(&["log", "1"]).out).contains(secret));
    // What is wrong with a bucket is told before anybody misses it.
    let path = server.data().join("../muster.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace(&bucket, "nowhere")).unwrap();
    let doctor = server.muster(&["doctor"]).out;
    let told = doctor.lines().find(|line| line.contains("storage")).unwrap_or(&doctor).to_owned();
    assert!(told.contains("nothing can be put there"), "{doctor}");
}
