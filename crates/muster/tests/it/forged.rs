//! Forged and malformed webhooks: what GitHub never sends, each with the answer that it must get.
//!
//! An entry is all that a sender writes to a new connection. It keeps the connection open and waits for one
//! answer (but for `100 Continue`), which must come in twelve seconds.
//!
//! The server watches `team/app`, number 4711 at GitHub, and has not met the corpus before: what comes twice
//! is no second webhook. Nothing here starts a run or sets a status: what is accepted all the same is a
//! deletion.

use Must::{Refuse, RefuseOrCutOff, Store};

/// A forged request.
pub(crate) struct Forged {
    /// What is wrong with it.
    pub(crate) name: &'static str,
    /// What is written to the connection: one request, and in some what poses as another after it.
    pub(crate) request: Vec<u8>,
    pub(crate) must: Must,
}

/// What must become of a forged request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Must {
    /// It is answered with one of these statuses, and nothing is stored.
    Refuse(&'static [u16]),
    /// It is answered with 202 and stored, alone. Its outcome is this word, with this text in the reason.
    Store(&'static str, &'static str),
    /// It is answered with one of these statuses, or cut off without an answer, and nothing is stored.
    RefuseOrCutOff(&'static [u16]),
}

const EVENT: &str = "X-GitHub-Event";
const DELIVERY: &str = "X-GitHub-Delivery";
const SIGNATURE: &str = "X-Hub-Signature-256";
const TYPE: &str = "Content-Type";
const LENGTH: &str = "Content-Length";
const ENCODING: &str = "Transfer-Encoding";
const FORM: &str = "application/x-www-form-urlencoded";
const LAST_CHUNK: &str = "0\r\n\r\n";

const UNSIGNED: Must = Refuse(&[401]);
const NO_HTTP: Must = Refuse(&[400]);
const NO_METHOD: Must = Refuse(&[400, 405, 501]);
const EITHER: Must = Refuse(&[400, 401]);
/// Whoever does not say who they are is not told what there is.
const NO_PATH: Must = Refuse(&[401, 404]);
const TOO_LARGE: Must = RefuseOrCutOff(&[414, 431]);
const TOO_LATE: Must = RefuseOrCutOff(&[400, 408, 413]);
const PONG: Must = Store("ignored", "a ping says only");
const UNKNOWN_EVENT: Must = Store("ignored", "starts nothing yet");
const NO_REF: Must = Store("ignored", "is neither a branch nor a tag");
const NO_JSON: Must = Store("dead", "the payload is no JSON");
const TOO_MANY: Must = Store("dead", "the payload has more than 500000 values");
const NO_FIELD: Must = Store("dead", "the form has no field");
const NO_PUSH: Must = Store("dead", "does not fit event `push`");
const NO_PULL: Must = Store("dead", "does not fit event `pull_request`");
const NO_BRANCH: Must = Store("dead", "is no name of a branch");
/// The deletion of a branch that git allows.
const DELETED: Must = Store("accepted", "");

const PING: &str = r#"{"zen":"Keep it logically awesome."}"#;
/// Of [`PING`]: with no secret, the empty one and another, and with the right one as it was once done.
const NO_KEY: &str = "sha256=0252d04b81792d637d82235c2e3f2f5a1aef4939830565eee2aec25d37681212";
const NO_SECRET: &str = "sha256=cb60fc56f8d2a73299733cd6481e0bf318f024790dc82896c41ce1f64931fdde";
const OLD_SECRET: &str = "sha256=842eb65acd1c7e953a7d97651c8c986bba4500df275848f0d85a0c7eb05f911f";
const SHA1: &str = "sha1=959d6081c0465919c3e3c8c436898c2f936a411c";

const ONES: &str = r#""1111111111111111111111111111111111111111""#;
const ZEROS: &str = r#""0000000000000000000000000000000000000000""#;

/// The deletion of a branch, field by field.
const PUSH: [(&str, &str); 8] = [
    ("ref", r#""refs/heads/gone""#),
    ("before", ONES),
    ("after", ZEROS),
    ("forced", "false"),
    ("deleted", "true"),
    ("head_commit", "null"),
    ("repository", r#"{"id":4711,"full_name":"team/app","updated_at":"2026-01-02T03:04:05Z"}"#),
    ("sender", r#"{"id":1,"login":"ana"}"#),
];

/// A pull request, field by field.
const PULL: [(&str, &str); 6] = [
    ("title", r#""Greet people""#),
    ("draft", "false"),
    ("updated_at", r#""2026-01-02T03:04:05Z""#),
    ("user", r#"{"id":7,"login":"bo"}"#),
    ("head", r#"{"ref":"topic","sha":"1111111111111111111111111111111111111111","repo":null}"#),
    ("base", r#"{"ref":"main","sha":"1111111111111111111111111111111111111111"}"#),
];

/// Makes the corpus; `sign` returns the right `X-Hub-Signature-256` of a body, made with the secret of
/// `muster-testkit`.
pub(crate) fn forged(sign: &dyn Fn(&[u8]) -> String) -> Vec<Forged> {
    let mut corpus = Corpus { sign, forged: Vec::new() };
    let parts: [fn(&mut Corpus<'_>); 10] =
        [signatures, claims, bodies, pushes, refs, pull_requests, targets, heads, lengths, chunks];
    parts.iter().for_each(|part| part(&mut corpus));
    corpus.forged
}

/// The corpus in the making.
struct Corpus<'s> {
    sign: &'s dyn Fn(&[u8]) -> String,
    forged: Vec<Forged>,
}

impl Corpus<'_> {
    /// Makes what GitHub would send as the next delivery.
    fn honest(&self, event: &str, body: impl Into<Vec<u8>>) -> Request {
        let line = "POST /webhooks/github HTTP/1.1".to_owned();
        Request { line, headers: Vec::new(), body: Vec::new() }
            .set("Host", "ci.example.org")
            .set(EVENT, event)
            .set(DELIVERY, format!("forged-{}", self.forged.len()))
            .set(TYPE, "application/json")
            .whole(body, self.sign)
    }

    fn bytes(&mut self, name: &'static str, must: Must, request: Vec<u8>) {
        self.forged.push(Forged { name, request, must });
    }

    /// Adds an event with a signed body that may be anything.
    fn event(&mut self, name: &'static str, must: Must, event: &str, body: impl Into<Vec<u8>>) {
        let request = self.honest(event, body).bytes();
        self.bytes(name, must, request);
    }

    /// Adds an honest ping after `forge` has changed it.
    fn ping(&mut self, name: &'static str, must: Must, forge: impl FnOnce(Request) -> Request) {
        let request = forge(self.honest("ping", PING)).bytes();
        self.bytes(name, must, request);
    }

    /// Adds pings with another value of one header.
    fn pings(&mut self, must: Must, header: &str, forged: &[(&'static str, &str)]) {
        for (name, value) in forged {
            self.ping(name, must, |ping| ping.set(header, value));
        }
    }

    /// Adds signed events with another value, as JSON, in one field.
    fn events(&mut self, must: Must, event: &str, fields: &Fields<'_>, forged: &[Field<'_>]) {
        for (name, field, value) in forged {
            self.event(name, must, event, object(fields, &[(field, value)]));
        }
    }
}

/// A request in the making: honest, until something of it is changed.
struct Request {
    line: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// Changes the method, the target and the version.
    fn line(self, line: impl Into<String>) -> Self {
        Self { line: line.into(), ..self }
    }

    /// Adds a header, also where there is one of this name.
    fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    fn set(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).with(name, value)
    }

    fn unsigned(self) -> Self {
        self.without(SIGNATURE)
    }

    /// Changes the body, and leaves its length and signature as they were.
    fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Changes the body, with its length and signature.
    fn whole(self, body: impl Into<Vec<u8>>, sign: &dyn Fn(&[u8]) -> String) -> Self {
        let body = body.into();
        self.set(LENGTH, body.len().to_string()).set(SIGNATURE, sign(&body)).body(body)
    }

    /// Sends chunks, as they stand here, in place of a body.
    fn chunks(self, chunks: impl Into<Vec<u8>>) -> Self {
        self.without(LENGTH).set(ENCODING, "chunked").body(chunks)
    }

    fn bytes(self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.line).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        [&bytes[..], b"\r\n", &self.body].concat()
    }
}

/// An object of JSON, field by field.
type Fields<'t> = [(&'t str, &'t str)];
/// The name of an entry, a field, and what is forged in it.
type Field<'t> = (&'static str, &'t str, &'t str);

/// Writes an object with other values in some fields, which may be new ones. A field without a value is
/// missing.
fn object(fields: &Fields<'_>, changes: &Fields<'_>) -> String {
    let kept = fields.iter().filter(|(name, _)| changes.iter().all(|(other, _)| other != name));
    let present = kept.chain(changes).filter(|(_, value)| !value.is_empty());
    let members: Vec<String> = present.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Writes a form whose field holds a payload.
fn form(payload: &str) -> String {
    let escaped: String = payload.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("payload={escaped}")
}

/// Writes a body as one chunk, and the end.
fn one_chunk(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n{LAST_CHUNK}", body.len())
}

/// Nobody who cannot sign these very bytes is let in.
fn signatures(all: &mut Corpus<'_>) {
    all.ping("no signature", UNSIGNED, Request::unsigned);
    all.ping("no signature, at the older address", UNSIGNED, |it| {
        it.unsigned().line("POST /event_handler HTTP/1.1")
    });
    all.ping("no signature, of this machine by its own word", UNSIGNED, |it| {
        it.unsigned().set("Host", "localhost").with("X-Forwarded-For", "127.0.0.1")
    });
    let sign = all.sign;
    let right = sign(PING.as_bytes());
    let digest = right.trim_start_matches("sha256=");
    let (half, rest) = digest.split_at(32);
    let last = if digest.ends_with('0') { '1' } else { '0' };
    // As a number `+f` is `0f`; as two digits it is nothing.
    let zero = (0..64).step_by(2).find(|at| digest[*at..].starts_with('0')).unwrap_or_default();
    let plus = format!("sha256={}+{}", &digest[..zero], &digest[zero + 1..]);
    let forged = [
        ("an empty signature", ""),
        ("a right digest but for its last digit", &format!("sha256={}{last}", &digest[..63])),
        ("a right digest with half its bytes", &right[..39]),
        ("a right digest with a byte too many", &format!("{right}00")),
        ("a right digest in upper case", &format!("sha256={}", digest.to_uppercase())),
        ("a right digest with a sign in it", &plus),
        ("a right digest with a space in it", &format!("sha256={half} {rest}")),
        ("a right digest with non-ASCII digits", &format!("sha256={half}é{}", &rest[2..])),
        ("a right digest under the name sha512", &format!("sha512={digest}")),
        ("a right signature of another body", &sign(b"{}")),
        ("a right signature of the body and a newline", &sign(format!("{PING}\n").as_bytes())),
        ("a signature with the empty secret", NO_SECRET),
        ("a signature with a secret that is none any more", OLD_SECRET),
    ];
    all.pings(UNSIGNED, SIGNATURE, &forged);
    all.pings(NO_HTTP, SIGNATURE, &[("a right signature and a NUL", &format!("{right}\0"))]);
    // GitHub sends it too, for those who still look at nothing else.
    all.ping("a right SHA-1 alone", UNSIGNED, |it| it.unsigned().with("X-Hub-Signature", SHA1));
    // Which of two counts, a proxy and a server may see differently.
    all.ping("a right signature and a wrong one", EITHER, |it| it.with(SIGNATURE, NO_KEY));
    all.ping("a wrong signature and a right one", EITHER, |it| {
        it.set(SIGNATURE, NO_KEY).with(SIGNATURE, &right)
    });
    all.ping("a form signed by its payload alone", UNSIGNED, |it| {
        it.whole(form(PING), sign).set(TYPE, FORM).set(SIGNATURE, &right)
    });
}

/// The signature does not cover what the headers claim.
fn claims(all: &mut Corpus<'_>) {
    let long = "x".repeat(201);
    for (event, delivery, value) in [
        ("an empty event", "an empty delivery id", ""),
        ("an event that is too long", "a delivery id that is too long", &long),
        ("an event that is not ASCII", "a delivery id that is not ASCII", "pïng"),
    ] {
        all.pings(NO_HTTP, EVENT, &[(event, value)]);
        all.pings(NO_HTTP, DELIVERY, &[(delivery, value)]);
    }
    all.ping("no event", NO_HTTP, |it| it.without(EVENT));
    all.ping("no delivery id", NO_HTTP, |it| it.without(DELIVERY));
    all.pings(PONG, DELIVERY, &[("a delivery id that is SQL", "'; DROP TABLE deliveries; --")]);
    all.event("an event in upper case", UNKNOWN_EVENT, "PUSH", object(&PUSH, &[]));
    all.event("an event that is HTML", UNKNOWN_EVENT, "<script>alert(1)</script>", PING);
    all.event("a ping that claims to be a push", NO_PUSH, "push", PING);
    all.event("a push that claims to be another", NO_PULL, "pull_request", object(&PUSH, &[]));
}

/// What is signed is stored as it came and judged later; what is no payload is dead.
fn bodies(all: &mut Corpus<'_>) {
    let (sign, form) = (all.sign, form(PING));
    for (name, must, content_type, body) in [
        ("an unknown content type", PONG, "application/x-unheard-of", PING),
        ("a charset that JSON does not have", PONG, "application/json; charset=latin1", PING),
        ("a content type in upper case", PONG, "APPLICATION/X-WWW-FORM-URLENCODED", &form),
        ("a form with a charset", PONG, "application/x-www-form-urlencoded; charset=utf-8", &form),
        ("a form without its field", NO_FIELD, FORM, "a=1&payloads={}"),
        ("a form as JSON", NO_JSON, "application/json", &form),
    ] {
        all.ping(name, must, |it| it.whole(body, sign).set(TYPE, content_type));
    }
    all.ping("no content type", PONG, |it| it.without(TYPE));
    let utf16: Vec<u8> = PING.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, body) in [
        ("JSON that is cut off", &PING.as_bytes()[..20]),
        ("JSON after a byte order mark", format!("\u{feff}{PING}").as_bytes()),
        ("JSON in UTF-16", &utf16),
        ("JSON with bytes that are not UTF-8", b"{\"zen\":\"\xc3\x28\"}"),
        ("JSON with half a surrogate pair", br#"{"zen":"\ud83d"}"#),
        ("JSON with a NUL in a text", b"{\"zen\":\"\0\"}"),
        ("JSON with a number beyond all", br#"{"hook_id":1e999}"#),
        ("JSON a hundred thousand lists deep", "[".repeat(100_000).as_bytes()),
        ("bytes that pose as compressed", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"),
    ] {
        all.event(name, NO_JSON, "ping", body);
    }
    let keys: Vec<String> = (0..1_000_000).map(|key| format!("\"{key}\":0")).collect();
    all.event("an object with a million keys", TOO_MANY, "push", format!("{{{}}}", keys.join(",")));
}

/// Each field that is used, with what it cannot be.
fn pushes(all: &mut Corpus<'_>) {
    let values = PUSH.map(|(_, value)| value).join(",");
    all.event("a push that is null", NO_PUSH, "push", "null");
    all.event("a push that is a number", NO_PUSH, "push", "4711");
    all.event("a push that is a text", NO_PUSH, "push", "\"push\"");
    all.event("a push that is the list of its values", NO_PUSH, "push", format!("[{values}]"));
    let commit = format!(r#"{{"id":{ZEROS},"message":"","timestamp":"","author":{{"name":""}}}}"#);
    let forged = [
        ("no ref", "ref", ""),
        ("a ref that is a number", "ref", "5"),
        ("a ref that comes again as null", "ref", r#""refs/heads/main","ref":null"#),
        ("a commit of seven digits", "before", r#""1111111""#),
        ("a commit in upper case", "before", r#""ABCDEF1111111111111111111111111111111111""#),
        ("a commit of zeros", "deleted", &format!("false,\"head_commit\":{commit}")),
        ("a flag that is a text", "forced", r#""false""#),
        ("no repository", "repository", ""),
        ("a repository that is null", "repository", "null"),
        ("a repository that is the list of its values", "repository", r#"[4711,"team/app",null]"#),
        ("an id that is a float", "repository", r#"{"id":4711.0,"full_name":"team/app"}"#),
        ("an id that is a text", "repository", r#"{"id":"4711","full_name":"team/app"}"#),
        ("an id of 2^63", "repository", r#"{"id":9223372036854775808,"full_name":"team/app"}"#),
        // A name becomes part of addresses, and of a command in a reason that people copy.
        ("a name that climbs", "repository", r#"{"id":4711,"full_name":"../../user?"}"#),
        ("a name with a NUL", "repository", r#"{"id":4711,"full_name":"team/app\u0000"}"#),
        ("a name that is a command", "repository", r#"{"id":1,"full_name":"$(id)"}"#),
        ("a sender whose id is a text", "sender", r#"{"id":"1","login":"ana"}"#),
    ];
    all.events(NO_PUSH, "push", &PUSH, &forged);
    let nothing = ("a push of nothing", "deleted", "false");
    all.events(Store("dead", "names no head commit"), "push", &PUSH, &[nothing]);
    let nothing = ("the deletion of what never was", "before", ZEROS);
    all.events(Store("ignored", "what never was"), "push", &PUSH, &[nothing]);
    let negative = ("a negative id", "repository", r#"{"id":-4711,"full_name":"team/app"}"#);
    all.events(Store("ignored", "not added"), "push", &PUSH, &[negative]);
}

/// Names that git refuses, and names that look worse than they are.
fn refs(all: &mut Corpus<'_>) {
    // GitHub takes 255 bytes.
    let long = format!("refs/heads/{}", "x".repeat(64 << 10));
    for (name, must, value) in [
        ("a ref without a folder", NO_REF, "HEAD"),
        ("a ref of another folder", NO_REF, "refs/remotes/origin/main"),
        ("a ref without a name", NO_REF, "refs/heads/"),
        ("a ref that is a range", NO_REF, "refs/heads/a..b"),
        ("a ref with a newline", NO_REF, r"refs/heads/a\nmuster success: green"),
        ("a ref with a NUL", NO_REF, r"refs/heads/a\u0000b"),
        ("a ref with an escape sequence", NO_REF, r"refs/heads/\u001b[2J"),
        ("a ref that is a lock", NO_REF, "refs/heads/main.lock"),
        ("a ref that is hidden", NO_REF, "refs/heads/.git/config"),
        ("a ref that is a log entry", NO_REF, "refs/heads/main@{1}"),
        ("a ref that ends with a dot", NO_REF, "refs/heads/main."),
        ("a ref of 64 KiB", NO_REF, &long),
        ("a ref that is an option", DELETED, "refs/heads/--upload-pack=x"),
        ("a ref that turns text around", DELETED, r"refs/heads/\u202egnp.sh"),
        ("a ref that is HTML", DELETED, "refs/heads/<svg/onload=alert(1)>"),
        ("a ref that is a command", DELETED, "refs/heads/$(id);`id`|id"),
    ] {
        all.events(must, "push", &PUSH, &[(name, "ref", &format!("\"{value}\""))]);
    }
}

/// Pull requests with a field that cannot be.
fn pull_requests(all: &mut Corpus<'_>) {
    let pull = |field: &str, value: &str| object(&PULL, &[(field, value)]);
    let head = |name: &str, sha: &str| pull("head", &format!(r#"{{"ref":{name},"sha":{sha}}}"#));
    let event = [
        ("action", "\"closed\""),
        ("number", "8"),
        ("pull_request", &pull("draft", "false")),
        ("repository", PUSH[6].1),
        ("sender", PUSH[7].1),
    ];
    let forged = [
        ("a pull request number 0", "number", "0"),
        ("a pull request number -1", "number", "-1"),
        ("a pull request number 2^63", "number", "9223372036854775808"),
        ("a pull request number that is a text", "number", "\"1\""),
        ("no sender", "sender", ""),
        ("a title that is a number", "pull_request", &pull("title", "5")),
        ("a head of a short commit", "pull_request", &head("\"topic\"", "\"1111111\"")),
        ("a head of zeros", "pull_request", &head("\"topic\"", ZEROS)),
        ("a head whose ref is a number", "pull_request", &head("5", ONES)),
        // As text it is later than all times that will be, and would be the last word on number 8.
        ("a time that is a word", "pull_request", &pull("updated_at", "\"soon\"")),
    ];
    all.events(NO_PULL, "pull_request", &event, &forged);
    for (name, git_ref) in [
        ("a head whose ref breaks a line", r#""a\nb""#),
        ("a head whose ref climbs", "\"../main\""),
        ("a head whose ref is a command", "\"$(touch /tmp/x)\""),
    ] {
        let forged = [(name, "pull_request", &*head(git_ref, ONES))];
        all.events(NO_BRANCH, "pull_request", &event, &forged);
    }
}

/// What is no `POST` to one of the two addresses meets nobody, however well it is signed.
fn targets(all: &mut Corpus<'_>) {
    let long = format!("POST /webhooks/github?{} HTTP/1.1", "x".repeat(70 << 10));
    for (name, must, line) in [
        ("GET", NO_METHOD, "GET /webhooks/github HTTP/1.1"),
        ("PUT", NO_METHOD, "PUT /webhooks/github HTTP/1.1"),
        ("DELETE at the older address", NO_METHOD, "DELETE /event_handler HTTP/1.1"),
        ("POST in lower case", NO_METHOD, "post /webhooks/github HTTP/1.1"),
        ("a path with two slashes", NO_PATH, "POST //webhooks/github HTTP/1.1"),
        ("a path with a slash at its end", NO_PATH, "POST /webhooks/github/ HTTP/1.1"),
        ("a path with an escaped letter", NO_PATH, "POST /webhooks/%67ithub HTTP/1.1"),
        ("a path with a query", PONG, "POST /webhooks/github?x HTTP/1.1"),
        ("a path of 70 KiB", TOO_LARGE, &long),
        ("a whole address", PONG, "POST http://ci.example.org/webhooks/github HTTP/1.1"),
        ("the first HTTP", PONG, "POST /webhooks/github HTTP/1.0"),
        ("no HTTP", NO_HTTP, "POST /webhooks/github"),
        ("a NUL in the path", NO_HTTP, "POST /webhooks/github\0 HTTP/1.1"),
    ] {
        all.ping(name, must, |it| it.line(line));
    }
}

/// Heads that HTTP does not allow, or nobody needs.
fn heads(all: &mut Corpus<'_>) {
    let folded = format!("\r\n {}", (all.sign)(PING.as_bytes()));
    all.pings(NO_HTTP, SIGNATURE, &[("a signature on a folded line", &folded)]);
    all.pings(NO_HTTP, "X-Broken", &[("a header that a line break ends", "one\rtwo")]);
    all.pings(NO_HTTP, "X-Spaced ", &[("a header with a space before its colon", "1")]);
    all.pings(TOO_LARGE, "X-Long", &[("a header of 1 MiB", &"x".repeat(1 << 20))]);
    all.ping("a header of 64 KiB, unsigned", Refuse(&[400, 401, 431]), |it| {
        it.unsigned().with("X-Long", "x".repeat(64 << 10))
    });
    let many = |it| (0..200).fold(it, |it: Request, n| it.with(&format!("X-{n}"), "1"));
    all.ping("two hundred headers", TOO_LARGE, many);
    all.ping("no host, unsigned", EITHER, |it| it.unsigned().without("Host"));
    all.pings(PONG, "Expect", &[("a wish to be asked for the body", "100-continue")]);
    let mut endless = all.honest("ping", PING).body("").bytes();
    endless.truncate(endless.len() - 2);
    all.bytes("a head without an end", TOO_LATE, endless);
}

/// Where a body ends is said once, or not believed.
fn lengths(all: &mut Corpus<'_>) {
    let right = PING.len();
    all.pings(NO_HTTP, LENGTH, &[("a length with a sign", &format!("+{right}"))]);
    all.pings(NO_HTTP, LENGTH, &[("a length beyond 2^64", &"9".repeat(30))]);
    all.ping("two lengths that differ", NO_HTTP, |it| it.with(LENGTH, "1"));
    all.ping("no length", Refuse(&[400, 401, 411]), |it| it.without(LENGTH));
    all.pings(TOO_LATE, LENGTH, &[("a length that is one too large", &(right + 1).to_string())]);
    all.pings(TOO_LATE, LENGTH, &[("a length of ten gigabytes", "10000000000")]);
    // No signature of the first covers the second.
    let second = all.honest("ping", PING).set(DELIVERY, "smuggled").unsigned().bytes();
    all.ping("an unsigned request behind a signed one", PONG, |it| {
        it.body([PING.as_bytes(), &second].concat())
    });
    all.ping("an unsigned request in a body that is longer than its length", UNSIGNED, |it| {
        it.body([&PING.as_bytes()[..7], &second].concat()).set(LENGTH, "7")
    });
    // A proxy that believes the length sees one request, and never looks at the second.
    let second = all.honest("ping", PING).set(DELIVERY, "smuggled").bytes();
    let two = [LAST_CHUNK.as_bytes(), &second].concat();
    let length = two.len().to_string();
    all.ping("a signed request behind a length and an encoding", EITHER, |it| {
        it.body(&*two).set(LENGTH, &length).with(ENCODING, "chunked")
    });
    all.ping("a signed request behind an encoding and a length", EITHER, |it| {
        it.chunks(&*two).with(LENGTH, &length)
    });
}

/// A body in chunks is what the chunks carry.
fn chunks(all: &mut Corpus<'_>) {
    let (sign, whole) = (all.sign, one_chunk(PING));
    let single: String = PING.chars().map(|letter| format!("01;a=b\r\n{letter}\r\n")).collect();
    all.ping("chunks", PONG, |it| it.chunks(&*whole));
    all.ping("chunks of one byte each", PONG, |it| it.chunks(single + LAST_CHUNK));
    all.ping("chunks without an end", TOO_LATE, |it| it.chunks(whole.trim_end_matches(LAST_CHUNK)));
    all.ping("chunks that are signed as they are sent", UNSIGNED, |it| {
        it.whole(&*whole, sign).chunks(&*whole)
    });
    all.ping("chunks with the signature behind them", UNSIGNED, |it| {
        let trailer = format!("0\r\n{SIGNATURE}: {}\r\n\r\n", sign(PING.as_bytes()));
        it.unsigned().with("Trailer", SIGNATURE).chunks(whole.replace(LAST_CHUNK, &trailer))
    });
    for (name, size) in [
        ("a chunk whose size is no number", "x"),
        ("a chunk of negative size", "-1"),
        ("a chunk beyond 2^64", "FFFFFFFFFFFFFFFFF"),
    ] {
        all.ping(name, NO_HTTP, |it| it.chunks(format!("{size}\r\n{PING}\r\n{LAST_CHUNK}")));
    }
    for (name, encoding) in [
        ("chunks that are encoded again", "chunked, gzip"),
        ("chunks after a vertical tab", "\u{b}chunked"),
    ] {
        all.ping(name, NO_HTTP, |it| it.chunks(&*whole).set(ENCODING, encoding));
    }
    all.ping("chunks of more than 25 MiB", Refuse(&[413]), |it| {
        let large = " ".repeat((25 << 20) + 1);
        it.whole(&*large, sign).chunks(one_chunk(&large))
    });
}
