use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_core::cache::scopes;
use muster_core::trust::Trust;
use muster_testkit::http_client;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const NOW: i64 = 1_000;

/// Services that run, and who calls them.
struct Scene {
    folder: TempDir,
    services: Arc<Services>,
    http: Client,
}

impl Scene {
    async fn new(bounds: Bounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (artifacts, caches, uploads) = (at("artifacts"), at("caches"), at("uploads"));
        let [artifacts, caches] = [artifacts, caches].map(|folder| Keep::open(&folder).unwrap());
        let places = Places { artifacts, caches, uploads: &uploads };
        let listener = bind(&at("port")).await.unwrap();
        let keys = Keys { tokens: Key::fresh(), identity: at("identity-key"), issuer: None };
        let services = Services::open(places, bounds, keys, &listener, None).unwrap();
        let serve = axum::serve(listener, services.router());
        drop(crate::task::spawn("services", async move { serve.await }));
        Self { folder, services, http: http_client().build().unwrap() }
    }

    /// Returns the token of a job.
    fn token(&self, bearer: &Bearer) -> String {
        self.services.access(bearer, clock::now_ms()).token
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        token: &str,
        body: impl Into<reqwest::Body>,
    ) -> Response {
        let url = if url.starts_with("http") {
            url.to_owned()
        } else {
            format!("{}{url}", self.services.url)
        };
        let request = self.http.request(method, url).bearer_auth(token);
        request.header("content-type", "application/json").body(body).send().await.unwrap()
    }

    /// Calls a method, and returns its answer, or the status and what it says is wrong.
    async fn call(&self, token: &str, method: &str, arguments: Value) -> Result<Value, String> {
        let url = format!("twirp/github.actions.results.api.v1.{method}");
        let answer = self.send(Method::POST, &url, token, arguments.to_string()).await;
        let status = answer.status();
        let said: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        if status.is_success() {
            Ok(said)
        } else {
            Err(format!("{} {}", status.as_u16(), said["msg"].as_str().unwrap()))
        }
    }

    async fn put(&self, url: &str, content: &str) -> Result<(), String> {
        let answer = self.send(Method::PUT, url, "", content.to_owned()).await;
        if answer.status().is_success() {
            return Ok(());
        }
        let said: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        Err(said["msg"].as_str().unwrap().to_owned())
    }

    async fn upload(&self, bearer: &Bearer, name: &str, content: &str) -> Result<Value, String> {
        let token = self.token(bearer);
        let of = |more: Value| {
            let mut call = json!({ "workflow_run_backend_id": bearer.run, "workflow_job_run_backend_id": bearer.job, "name": name });
            call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            call
        };
        let begun =
            self.call(&token, "ArtifactService/CreateArtifact", of(json!({"version": 7}))).await?;
        let url = begun["signed_upload_url"].as_str().unwrap();
        self.put(url, content).await?;
        let size = content.len().to_string();
        self.call(&token, "ArtifactService/FinalizeArtifact", of(json!({ "size": size }))).await
    }

    async fn cache(&self, bearer: &Bearer, key: &str, content: &str) -> Result<Value, String> {
        let token = self.token(bearer);
        let call = json!({ "key": key, "version": "v" });
        let begun = self.call(&token, "CacheService/CreateCacheEntry", call.clone()).await?;
        if begun["ok"] == false {
            return Err(begun["message"].to_string());
        }
        let url = begun["signed_upload_url"].as_str().unwrap();
        self.put(url, content).await?;
        self.call(&token, "CacheService/FinalizeCacheEntryUpload", call).await
    }

    /// Returns the key and content of the cache that a job gets.
    async fn restore(&self, bearer: &Bearer, key: &str, more: &[&str]) -> Option<(String, String)> {
        let call = json!({ "key": key, "restore_keys": more, "version": "v" });
        let token = self.token(bearer);
        let found = self.call(&token, "CacheService/GetCacheEntryDownloadURL", call).await.unwrap();
        if found["ok"] == false {
            return None;
        }
        let url = found["signed_download_url"].as_str().unwrap();
        let content = self.send(Method::GET, url, "", "").await.text().await.unwrap();
        Some((found["matched_key"].as_str().unwrap().to_owned(), content))
    }
}

fn bounds() -> Bounds {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    Bounds { largest: 1 << 20, caches: 2_000, artifacts_for: days(90), caches_for: days(7) }
}

fn job(run: &str, job: &str) -> Bearer {
    of_ref(run, job, "refs/heads/main", None, Trust::Member)
}

fn of_ref(run: &str, job: &str, name: &str, base: Option<&str>, trust: Trust) -> Bearer {
    Bearer {
        run: run.into(),
        run_attempt: 1,
        job: job.into(),
        attempt: 1,
        repository: "repository".into(),
        caches: scopes(name, base, "main", trust),
        guest: trust < Trust::Member,
        identity: None,
    }
}

fn text(said: &Result<Value, String>) -> &str {
    said.as_ref().map_or_else(String::as_str, |_| "it was done")
}

#[tokio::test]
async fn an_artifact_is_there_as_a_whole_and_once() {
    let scene = Scene::new(bounds()).await;
    let (maker, reader) = (job("1", "a"), job("1", "b"));
    scene.upload(&maker, "log", "all is well").await.unwrap();
    assert!(text(&scene.upload(&reader, "log", "otherwise").await).contains("409"));
    let ask = json!({ "workflow_run_backend_id": "1", "name": "log" });
    let token = scene.token(&reader);
    let listed = scene.call(&token, "ArtifactService/ListArtifacts", ask.clone()).await.unwrap();
    assert_eq!(listed["artifacts"][0]["size"], "11");
    let signed =
        scene.call(&token, "ArtifactService/GetSignedArtifactURL", ask.clone()).await.unwrap();
    let url = signed["signed_url"].as_str().unwrap();
    assert_eq!(scene.send(Method::GET, url, "", "").await.text().await.unwrap(), "all is well");
    // Of another attempt of the run there may be another, and the last counts.
    let again = Bearer { run_attempt: 2, ..maker.clone() };
    scene.upload(&again, "log", "better").await.unwrap();
    let of_run = scene.services.artifacts_of("1").await.unwrap();
    assert_eq!((of_run.len(), of_run[0].size), (1, 6));
    // A supervisor that was lost after the upload is no reason to fail.
    let retried = Bearer { attempt: 2, ..again };
    scene.upload(&retried, "log", "best, now").await.unwrap();
    assert_eq!(scene.services.artifacts_of("1").await.unwrap()[0].size, 9);
    let of_the_last = scene.token(&retried);
    scene.call(&of_the_last, "ArtifactService/DeleteArtifact", ask).await.unwrap();
    assert_eq!(scene.services.artifacts_of("1").await.unwrap()[0].size, 11);
    scene.services.tidy(clock::now_ms() + 91 * 24 * 3_600_000).await.unwrap();
    assert!(scene.services.artifacts_of("1").await.unwrap().is_empty());
    let left = std::fs::read_dir(scene.folder.path().join("artifacts/1/blobs"));
    assert_eq!(left.map_or(0, Iterator::count), 0, "what held it stays");
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused() {
    let scene = Scene::new(bounds()).await;
    let (ours, token) = (job("1", "a"), scene.token(&job("1", "a")));
    let ask = |run: &str, name: &str| json!({ "workflow_run_backend_id": run, "name": name });
    let mut said = Vec::new();
    for (token, method, arguments) in [
        ("", "ArtifactService/ListArtifacts", ask("1", "a")),
        ("a.b.c", "ArtifactService/ListArtifacts", ask("1", "a")),
        (&token, "ArtifactService/ListArtifacts", ask("2", "a")),
        (&token, "ArtifactService/CreateArtifact", ask("1", "../../etc")),
        (&token, "ArtifactService/CreateArtifact", ask("1", "..")),
        (&token, "ArtifactService/CreateArtifact", ask("1", "")),
        (&token, "ArtifactService/FinalizeArtifact", ask("1", "never")),
        (&token, "ArtifactService/GetSignedArtifactURL", ask("1", "never")),
        (&token, "ArtifactService/Migrate", ask("1", "a")),
        (&token, "CacheService/CreateCacheEntry", json!({ "key": "a,b", "version": "v" })),
        (&token, "CacheService/FinalizeCacheEntryUpload", json!({ "key": "a", "version": "v" })),
    ] {
        said.push(scene.call(token, method, arguments).await.unwrap_err());
    }
    insta::assert_snapshot!(said.join("\n"), @"
    401 the token is none of a job that runs
    401 the token is none of a job that runs
    403 it is the token of a job of another run
    400 `../../etc` is no name of an artifact
    400 `..` is no name of an artifact
    400 `` is no name of an artifact
    404 artifact `never` was not begun
    404 there is no artifact `never` in this run
    404 there is no method `Migrate`
    400 `a,b` is no key of a cache
    404 the cache was not begun
    ");
    // What was not said to be there is not, and what differs is not taken.
    let begun = scene.call(&token, "ArtifactService/CreateArtifact", ask("1", "a")).await.unwrap();
    let url = begun["signed_upload_url"].as_str().unwrap().to_owned();
    let end = |more: Value| {
        let mut call = ask("1", "a");
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        call
    };
    let finalize = "ArtifactService/FinalizeArtifact";
    let mut said =
        vec![scene.call(&token, finalize, end(json!({ "size": "3" }))).await.unwrap_err()];
    scene.send(Method::PUT, &url, "", "abc").await;
    said.push(scene.call(&token, finalize, end(json!({ "size": "4" }))).await.unwrap_err());
    said.push(
        scene
            .call(&token, finalize, end(json!({ "size": 3, "hash": "sha256:00" })))
            .await
            .unwrap_err(),
    );
    let unsigned = url.replace("sig=", "sig=A");
    for (url, body) in [
        (unsigned.as_str(), "abc".to_owned()),
        (&format!("{url}&comp=block"), "abc".to_owned()),
        (&format!("{url}&comp=page"), "abc".to_owned()),
        (&format!("{url}&comp=blocklist"), "<Latest>bm9uZQ==</Latest>".to_owned()),
        (&url, "x".repeat((1 << 20) + 1)),
        ("uploads/..%2f..?sig=A", "abc".to_owned()),
    ] {
        let answer = scene.send(Method::PUT, url, "", body).await;
        let status = answer.status().as_u16();
        let text: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        said.push(format!("{status} {}", text["msg"].as_str().unwrap()));
    }
    insta::assert_snapshot!(said.join("\n"), @"
    400 nothing was uploaded
    400 it has another size than what was uploaded
    400 it has another hash than what was uploaded
    403 the address of the upload is not signed
    400 `blockid` has no name of a block
    400 `comp=page` is not known here
    400 block `bm9uZQ==` was not uploaded
    413 it is larger than 1 MiB
    403 the address of the upload is not signed
    ");
    assert!(scene.services.artifacts_of("1").await.unwrap().is_empty());
    scene.upload(&ours, "a", "abc").await.unwrap();
    let answer = scene.send(Method::GET, "artifacts/1/blob?sig=A", "", "").await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let old = scene.services.key.token(&ours, NOW, Duration::from_secs(1));
    assert!(scene.call(&old, "ArtifactService/ListArtifacts", ask("1", "a")).await.is_err());
}

#[tokio::test]
async fn blocks_are_put_together_in_the_order_of_their_list() {
    let scene = Scene::new(bounds()).await;
    let token = scene.token(&job("1", "a"));
    let ask = json!({ "workflow_run_backend_id": "1", "name": "a" });
    let begun = scene.call(&token, "ArtifactService/CreateArtifact", ask.clone()).await.unwrap();
    let url = begun["signed_upload_url"].as_str().unwrap();
    for (block, content) in [("Yg==", "world"), ("YQ==", "lost"), ("YQ==", "hello ")] {
        let url = format!("{url}&comp=block&blockid={}", block.replace('=', "%3D"));
        let done = scene.send(Method::PUT, &url, "", content).await;
        assert_eq!(done.status(), StatusCode::CREATED);
    }
    let list = "<BlockList><Latest>YQ==</Latest><Latest>Yg==</Latest></BlockList>";
    scene.send(Method::PUT, &format!("{url}&comp=blocklist"), "", list).await;
    scene.call(&token, "ArtifactService/FinalizeArtifact", ask).await.unwrap();
    let found = scene.services.artifact("1", "a").await.unwrap().unwrap();
    let found = axum::body::to_bytes(found.into_body(), 100).await.unwrap();
    assert_eq!(&found[..], b"hello world");
}

#[tokio::test]
async fn caches_are_found_by_key_then_by_what_they_begin_with() {
    let scene = Scene::new(bounds()).await;
    let main = job("1", "a");
    for (key, content) in [("os-1", "one"), ("os-2", "two"), ("other", "three")] {
        scene.cache(&main, key, content).await.unwrap();
    }
    assert!(text(&scene.cache(&main, "os-1", "else").await).contains("already exists"));
    let found = |key: &str, content: &str| Some((key.to_owned(), content.to_owned()));
    assert_eq!(scene.restore(&main, "os-1", &[]).await, found("os-1", "one"));
    assert_eq!(scene.restore(&main, "os-", &[]).await, found("os-2", "two"));
    assert_eq!(scene.restore(&main, "none", &["nor", "oth"]).await, found("other", "three"));
    assert_eq!(scene.restore(&main, "none", &[]).await, None);
    let elsewhere = Bearer { repository: "another".into(), ..main };
    assert_eq!(scene.restore(&elsewhere, "os-1", &[]).await, None);
}

#[tokio::test]
async fn nothing_that_a_less_trusted_run_wrote_is_read_by_a_more_trusted_one() {
    let scene = Scene::new(bounds()).await;
    let pull = "refs/pull/5/merge";
    let main = job("1", "a");
    let topic = of_ref("2", "a", "refs/heads/topic", None, Trust::Member);
    let stranger = of_ref("3", "a", pull, Some("refs/heads/main"), Trust::Approved);
    let member = of_ref("4", "a", pull, Some("refs/heads/main"), Trust::Member);
    scene.cache(&stranger, "k", "poison").await.unwrap();
    for trusted in [&main, &topic, &member] {
        assert_eq!(scene.restore(trusted, "k", &["k"]).await, None);
    }
    assert_eq!(scene.restore(&stranger, "k", &[]).await.unwrap().1, "poison");
    scene.cache(&main, "k", "good").await.unwrap();
    for trusted in [&main, &topic, &member] {
        assert_eq!(scene.restore(trusted, "k", &[]).await.unwrap().1, "good");
    }
    // A branch is not read by another that is not its base.
    scene.cache(&topic, "t", "of the topic").await.unwrap();
    assert_eq!(scene.restore(&main, "t", &[]).await, None);
}

#[tokio::test]
async fn the_caches_that_are_used_least_make_room_for_new_ones() {
    let scene = Scene::new(bounds()).await;
    let main = job("1", "a");
    for key in ["a", "b", "c"] {
        scene.cache(&main, key, &key.repeat(900)).await.unwrap();
    }
    assert_eq!(scene.restore(&main, "a", &[]).await, None, "it has no room");
    assert!(
        scene.restore(&main, "b", &[]).await.is_some()
            && scene.restore(&main, "c", &[]).await.is_some()
    );
    scene.services.tidy(clock::now_ms() + 8 * 24 * 3_600_000).await.unwrap();
    assert_eq!(scene.restore(&main, "c", &[]).await, None, "nobody has used it for long");
    // One that is larger than all may be together takes nobody's place.
    scene.cache(&main, "d", "d").await.unwrap();
    assert!(text(&scene.cache(&main, "e", &"e".repeat(2_001)).await).contains("413"));
    assert!(scene.restore(&main, "d", &[]).await.is_some());
}

#[tokio::test]
async fn who_may_not_push_leaves_little_and_takes_no_place_from_others() {
    let scene = Scene::new(bounds()).await;
    let (member, pull) = (job("1", "a"), "refs/pull/5/merge");
    let guest = |job: &str| of_ref("2", job, pull, Some("refs/heads/main"), Trust::Approved);
    scene.cache(&member, "ours", &"x".repeat(1_900)).await.unwrap();
    // Theirs have a tenth of the bound, and make room among themselves.
    assert!(text(&scene.cache(&guest("a"), "large", &"x".repeat(201)).await).contains("MiB"));
    for key in ["one", "two", "three"] {
        scene.cache(&guest("a"), key, &"y".repeat(90)).await.unwrap();
    }
    let kept = scene.restore(&member, "ours", &[]).await;
    assert_eq!(kept.map(|(_, content)| content.len()), Some(1_900));
    assert_eq!(scene.restore(&guest("b"), "one", &[]).await, None);
    assert!(scene.restore(&guest("b"), "three", &[]).await.is_some());
    // All jobs of their run together send a fifth of what the largest upload of a member may have.
    let piece = "z".repeat(100_000);
    assert!(
        text(&scene.upload(&guest("a"), "large", &"z".repeat(110_000)).await).contains("larger")
    );
    scene.upload(&guest("a"), "first", &piece).await.unwrap();
    let refused = scene.upload(&guest("b"), "second", &piece).await;
    assert!(text(&refused).contains("its run has uploaded more"), "{}", text(&refused));
    scene.upload(&member, "ours", &piece).await.unwrap();
}

#[tokio::test]
async fn a_run_has_so_much_under_way_and_others_do_not_feel_it() {
    let scene = Scene::new(bounds()).await;
    let (member, pull) = (job("1", "a"), "refs/pull/5/merge");
    let guest = of_ref("2", "a", pull, Some("refs/heads/main"), Trust::Approved);
    let begin = async |bearer: &Bearer, name: &str| {
        let ask = json!({ "workflow_run_backend_id": bearer.run, "name": name });
        scene.call(&scene.token(bearer), "ArtifactService/CreateArtifact", ask).await
    };
    for n in 0..UPLOADS / 10 {
        begin(&guest, &n.to_string()).await.unwrap();
    }
    let refused = begin(&guest, "more").await;
    assert_eq!(text(&refused), "413 its run has 100 uploads that are not complete");
    begin(&member, "other").await.unwrap();
    // One of them once more, and to its end: there is room again.
    scene.upload(&guest, "0", "content").await.unwrap();
    let again = begin(&guest, "more").await.unwrap();

    let url = reqwest::Url::parse(again["signed_upload_url"].as_str().unwrap()).unwrap();
    let stuck = || {
        let mut stream = std::net::TcpStream::connect(url.authority()).unwrap();
        let (path, query) = (url.path(), url.query().unwrap());
        let ask = format!("PUT {path}?{query} HTTP/1.1\r\nHost: it\r\nContent-Length: 9\r\n\r\n");
        std::io::Write::write_all(&mut stream, ask.as_bytes()).unwrap();
        stream
    };
    let start = clock::monotonic();
    let until_under_way = async |calls: usize| {
        // One more finds no room as soon as so many are there, and not before.
        while scene.services.ledger.call("2.1", calls).is_ok() {
            assert!(start.elapsed() < Duration::from_secs(60), "{calls}");
            tokio::task::yield_now().await;
        }
    };
    let mut silent = Vec::new();
    for calls in 1..=CALLS / 10 {
        silent.push(stuck());
        until_under_way(calls).await;
    }
    let refused = begin(&guest, "1").await;
    assert_eq!(text(&refused), "503 its run has 25 calls under way");
    scene.upload(&member, "mine", "content").await.unwrap();
    drop(silent);
    while begin(&guest, "1").await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}

#[tokio::test]
async fn who_got_no_answer_to_the_end_of_an_upload_asks_once_more() {
    let scene = Scene::new(bounds()).await;
    let maker = job("1", "a");
    let first = scene.upload(&maker, "log", "all is well").await.unwrap();
    let ask = json!({ "workflow_run_backend_id": "1", "name": "log", "size": "11" });
    let token = scene.token(&maker);
    let again = scene.call(&token, "ArtifactService/FinalizeArtifact", ask.clone()).await;
    assert_eq!(again.unwrap()["artifact_id"], first["artifact_id"]);
    let other = scene.token(&job("1", "b"));
    let of_another = scene.call(&other, "ArtifactService/FinalizeArtifact", ask).await;
    assert_eq!(text(&of_another), "404 artifact `log` was not begun");
}

#[tokio::test]
async fn of_caches_there_are_so_many_however_small() {
    let scene = Scene::new(bounds()).await;
    let pull = "refs/pull/5/merge";
    let guest = of_ref("2", "a", pull, Some("refs/heads/main"), Trust::Approved);
    for n in 0..=200 {
        scene.cache(&guest, &n.to_string(), "").await.unwrap();
    }
    assert_eq!(scene.restore(&guest, "0", &[]).await, None, "it has no room");
    let last = scene.restore(&guest, "200", &[]).await;
    assert_eq!(last, Some(("200".to_owned(), String::new())));
}

#[tokio::test]
async fn the_older_interface_of_caches_is_there_too() {
    let scene = Scene::new(bounds()).await;
    let main = job("1", "a");
    let token = scene.token(&main);
    let below = "_apis/artifactcache";
    let missing =
        scene.send(Method::GET, &format!("{below}/cache?keys=k&version=v"), &token, "").await;
    assert_eq!(missing.status(), StatusCode::NO_CONTENT);
    let reserve = json!({ "key": "k-1", "version": "v" }).to_string();
    let reserved =
        scene.send(Method::POST, &format!("{below}/caches"), &token, reserve.clone()).await;
    let reserved: Value = serde_json::from_str(&reserved.text().await.unwrap()).unwrap();
    let at = format!("{below}/caches/{}", reserved["cacheId"].as_str().unwrap());
    let other = scene.token(&job("1", "b"));
    for (from, content, token) in
        [(5, " world", &token), (0, "hello", &token), (0, "stolen", &other)]
    {
        let url = format!("{}{at}", scene.services.url);
        let range = format!("bytes {from}-{}/*", from + content.len() - 1);
        let request = scene.http.request(Method::PATCH, url).bearer_auth(token);
        let done = request.header("content-range", range).body(content).send().await.unwrap();
        assert_eq!(done.status().is_success(), content != "stolen");
    }
    let wrong = scene.send(Method::POST, &at, &token, json!({ "size": 12 }).to_string()).await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    let done = scene.send(Method::POST, &at, &token, json!({ "size": 11 }).to_string()).await;
    assert!(done.status().is_success());
    let again = scene.send(Method::POST, &format!("{below}/caches"), &token, reserve).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    let found =
        scene.send(Method::GET, &format!("{below}/cache?keys=x,k-&version=v"), &token, "").await;
    let found: Value = serde_json::from_str(&found.text().await.unwrap()).unwrap();
    assert_eq!(found["cacheKey"], "k-1");
    let location = found["archiveLocation"].as_str().unwrap();
    assert_eq!(
        scene.send(Method::GET, location, "", "").await.text().await.unwrap(),
        "hello world"
    );
    assert_eq!(scene.restore(&main, "k-1", &[]).await.unwrap().1, "hello world");
}

#[tokio::test]
async fn what_nothing_describes_goes_after_a_while() {
    let scene = Scene::new(bounds()).await;
    scene.upload(&job("1", "a"), "kept", "content").await.unwrap();
    let blobs = scene.folder.path().join("artifacts/1/blobs");
    std::fs::write(blobs.join("orphan"), "left by a crash").unwrap();
    std::fs::write(blobs.join("staged#1"), "left by another, or being written").unwrap();
    std::fs::write(scene.folder.path().join("artifacts/1/garbled.json"), "{").unwrap();
    let of_others = scene.folder.path().join("artifacts/1/of-others");
    std::fs::write(&of_others, "in the same bucket").unwrap();
    let count = || std::fs::read_dir(&blobs).unwrap().count();
    scene.services.tidy(clock::now_ms()).await.unwrap();
    assert_eq!(count(), 3, "they may only just have come");
    let later = clock::now_ms() + 2 * 3_600_000;
    scene.services.tidy(later).await.unwrap();
    assert_eq!(count(), 3, "what cannot be read may describe it");
    std::fs::remove_file(scene.folder.path().join("artifacts/1/garbled.json")).unwrap();
    scene.services.tidy(later).await.unwrap();
    assert_eq!(count(), 1);
    assert!(of_others.exists());
    assert_eq!(scene.services.artifacts_of("1").await.unwrap().len(), 1);
}

#[tokio::test]
async fn of_two_block_lists_at_once_neither_harms_the_other() {
    let scene = Scene::new(bounds()).await;
    let token = scene.token(&job("1", "a"));
    let ask = json!({ "workflow_run_backend_id": "1", "name": "a" });
    let begun = scene.call(&token, "ArtifactService/CreateArtifact", ask.clone()).await.unwrap();
    let url = begun["signed_upload_url"].as_str().unwrap();
    let list: String = (0..20).map(|n| format!("<Latest>{n:02}</Latest>")).collect();
    for n in 0..20 {
        let url = format!("{url}&comp=block&blockid={n:02}");
        scene.send(Method::PUT, &url, "", "x".repeat(10_000)).await.error_for_status().unwrap();
    }
    let url_of_list = format!("{url}&comp=blocklist");
    let send = || scene.send(Method::PUT, &url_of_list, "", list.clone());
    let (one, other) = tokio::join!(send(), send());
    assert!(one.status().is_success() || other.status().is_success());
    let size = json!({ "workflow_run_backend_id": "1", "name": "a", "size": "200000" });
    scene.call(&token, "ArtifactService/FinalizeArtifact", size).await.unwrap();
}

#[tokio::test]
async fn identity_tokens_are_for_jobs_that_may_have_them_and_verify_with_the_issuers_keys() {
    let scene = Scene::new(bounds()).await;
    let claims = json!({"sub": "repo:team/app:ref:refs/heads/main", "repository_owner": "team"});
    let may_not = job("1", "a");
    let may = Bearer { identity: claims.as_object().cloned(), ..job("1", "b") };
    let ask = async |bearer: &Bearer, query: &str| {
        let access = scene.services.access(bearer, clock::now_ms());
        let url = access.identity_url.unwrap_or(format!("{}identity/token?x=y", access.url));
        let request = scene.http.get(format!("{url}{query}")).bearer_auth(access.token);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    assert_eq!(ask(&may_not, "").await.0, 403);
    assert_eq!(ask(&may, &format!("&audience={}", "x".repeat(1025))).await.0, 400);
    let (status, answer) = ask(&may, "&audience=sts.example.org").await;
    assert_eq!(status, 200);
    let token = answer["value"].as_str().unwrap();
    let (said, signature) = token.rsplit_once('.').unwrap();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let get = async |path: &str| {
        let url =
            format!("{}{path}", scene.services.issuer().discovery()["issuer"].as_str().unwrap());
        scene.http.get(url).send().await.unwrap().json::<Value>().await.unwrap()
    };
    let keys = get("/.well-known/jwks").await;
    let number = |name: &str| decode(keys["keys"][0][name].as_str().unwrap());
    let public = ring::signature::RsaPublicKeyComponents { n: number("n"), e: number("e") };
    let verify = |said: &str| {
        let parameters = &ring::signature::RSA_PKCS1_2048_8192_SHA256;
        public.verify(parameters, said.as_bytes(), &decode(signature)).is_ok()
    };
    assert!(verify(said) && !verify(&said[1..]));
    let (header, body) = said.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    assert_eq!(header["kid"], keys["keys"][0]["kid"]);
    let body: Value = serde_json::from_slice(&decode(body)).unwrap();
    assert_eq!((&body["aud"], &body["sub"]), (&"sts.example.org".into(), &claims["sub"]));
    assert_eq!(get("/.well-known/openid-configuration").await["issuer"], body["iss"]);
    let seconds = |name: &str| body[name].as_i64().unwrap();
    assert!(seconds("exp") - seconds("iat") == 300 && seconds("nbf") < seconds("iat"));
    // Without a word it is for who owns the repository.
    let (_, answer) = ask(&may, "").await;
    let body = answer["value"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    let body: Value = serde_json::from_slice(&decode(&body)).unwrap();
    assert!(body["aud"].as_str().unwrap().ends_with("/team"), "{body}");
}
