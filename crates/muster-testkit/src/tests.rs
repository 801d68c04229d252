//! The fake refuses what GitHub refuses.

use std::fmt::Write as _;

use reqwest::Method;

use crate::{FakeGitHub, TOKEN};

const SHA: &str = "/repos/team/app/statuses/6dcb09b5b57875f334f61aebed695e2e4193db5e";
const GOOD: &str = r#"{"state":"success","context":"test","target_url":"http://ci/runs/1"}"#;

/// A call, and how it differs from a right one.
struct Call {
    what: &'static str,
    method: Method,
    path: String,
    body: String,
    /// Headers to replace; an empty value leaves the header out.
    headers: Vec<(&'static str, &'static str)>,
}

fn status(what: &'static str, body: impl Into<String>) -> Call {
    Call { what, method: Method::POST, path: SHA.into(), body: body.into(), headers: Vec::new() }
}

fn at(what: &'static str, method: Method, path: &str, body: &str) -> Call {
    Call { what, method, path: path.into(), body: body.into(), headers: Vec::new() }
}

fn with(what: &'static str, name: &'static str, value: &'static str) -> Call {
    Call { headers: vec![(name, value)], ..status(what, GOOD) }
}

fn wrong_calls() -> Vec<Call> {
    let long = format!(
        r#"{{"state":"success","target_url":"http://ci","description":"{}"}}"#,
        "x".repeat(141)
    );
    vec![
        with("no token", "authorization", ""),
        with("a wrong token", "authorization", "Bearer ghp_wrong"),
        with("no user agent", "user-agent", ""),
        with("another version of the API", "x-github-api-version", "2021-01-01"),
        with("no media type", "accept", "text/html"),
        status("no body", ""),
        status("no JSON", "state=success"),
        status("a list", "[]"),
        status("no state", r#"{"context":"test"}"#),
        status("a state that Actions has, and statuses have not", r#"{"state":"cancelled"}"#),
        status("a state in capitals", r#"{"state":"SUCCESS"}"#),
        status("a number as state", r#"{"state":1}"#),
        status("a number as context", r#"{"state":"success","context":7}"#),
        status("a list as description", r#"{"state":"success","description":["a"]}"#),
        status("an object as address", r#"{"state":"success","target_url":{}}"#),
        status("a property of check runs", r#"{"state":"success","conclusion":"success"}"#),
        status("another spelling", r#"{"state":"success","targetUrl":"http://ci"}"#),
        status("a description of 141 characters", long),
        status("an address without a scheme", r#"{"state":"success","target_url":"ci/runs/1"}"#),
        at("a short name of the commit", Method::POST, "/repos/team/app/statuses/6dcb09b", GOOD),
        at("PUT", Method::PUT, SHA, GOOD),
        at("a path that is no more", Method::POST, "/repos/team/app/status/6dcb09b", GOOD),
        at("a path outside of repositories", Method::GET, "/ping", ""),
        at("a repository that is not there", Method::GET, "/repos/team/other", ""),
        at("a body where none belongs", Method::GET, "/repos/team/app", "{}"),
        at("a parameter that there is not", Method::GET, "/repos/team/app?per_page=100", ""),
    ]
}

fn send(github: &FakeGitHub, call: &Call) -> u16 {
    let mut headers = vec![
        ("authorization", format!("Bearer {TOKEN}")),
        ("user-agent", "test".to_owned()),
        ("accept", "application/vnd.github+json".to_owned()),
        ("x-github-api-version", "2022-11-28".to_owned()),
        ("content-type", "application/json".to_owned()),
    ];
    for (name, value) in &call.headers {
        headers.retain(|(known, _)| known != name);
        if !value.is_empty() {
            headers.push((name, (*value).to_owned()));
        }
    }
    let client = crate::http_client().build().unwrap();
    let mut request = client.request(call.method.clone(), github.api() + &call.path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(request.body(call.body.clone()).send()).unwrap().status().as_u16()
}

#[test]
fn wrong_calls_are_refused_and_told() {
    if crate::description::description().is_none() {
        return;
    }
    let mut table = String::new();
    let calls = wrong_calls();
    assert!(calls.len() >= 25);
    for call in calls {
        let github = FakeGitHub::start();
        let answer = send(&github, &call);
        let told = github.faults().join("; ").replace(SHA, "STATUSES");
        assert!(answer >= 400, "{}: {answer}", call.what);
        writeln!(table, "{} {}: {told}", answer, call.what).unwrap();
    }
    insta::assert_snapshot!(table, @r#"
    401 no token: POST status: without the token
    401 a wrong token: POST status: without the token
    403 no user agent: POST status: user agent, accept or version is missing
    403 another version of the API: POST status: user agent, accept or version is missing
    403 no media type: POST status: user agent, accept or version is missing
    422 no body: POST STATUSES: it needs a body
    400 no JSON: POST STATUSES: Problems parsing JSON
    422 a list: POST STATUSES: : [] is not of type "object"
    422 no state: POST STATUSES: : "state" is a required property
    422 a state that Actions has, and statuses have not: POST STATUSES: /state: "cancelled" is not one of "error", "failure" or 2 other candidates
    422 a state in capitals: POST STATUSES: /state: "SUCCESS" is not one of "error", "failure" or 2 other candidates
    422 a number as state: POST STATUSES: /state: 1 is not of type "string"
    422 a number as context: POST STATUSES: /context: 7 is not of type "string"
    422 a list as description: POST STATUSES: /description: ["a"] is not of types "null", "string"
    422 an object as address: POST STATUSES: /target_url: {} is not of types "null", "string"
    422 a property of check runs: POST STATUSES: there is no property `conclusion`
    422 another spelling: POST STATUSES: there is no property `targetUrl`
    422 a description of 141 characters: POST status: description is too long (maximum is 140 characters)
    422 an address without a scheme: POST status: target_url must use http(s)
    422 a short name of the commit: POST status: No commit found for SHA
    404 PUT: PUT STATUSES: this path does not take that method
    404 a path that is no more: POST /repos/team/app/status/6dcb09b: there is no such path
    404 a path outside of repositories: GET /ping: there is no such path
    404 a repository that is not there: 
    422 a body where none belongs: GET /repos/team/app: it takes no body
    422 a parameter that there is not: GET /repos/team/app: there is no parameter `per_page`
    "#);
    let github = FakeGitHub::start();
    assert_eq!(send(&github, &status("a right one", GOOD)), 201);
    github.answer_next(403, Some(60));
    assert_eq!(send(&github, &status("one that is asked to wait", GOOD)), 403);
    assert_eq!(github.faults(), Vec::<String>::new());
    assert_eq!(send(&github, &status("one that did not", GOOD)), 403);
    assert_eq!(github.faults(), ["POST status: called while asked to wait"]);
}
