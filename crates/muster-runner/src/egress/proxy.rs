//! A proxy for HTTP ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110), 7.6 and 9.3.6): tunnels by CONNECT, and requests for a
//! whole address, one for each connection.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use muster_sys::clock;

use super::{Egress, Refused, named, split};

/// A head has no more bytes, and comes within this time.
const MAX_HEAD: usize = 64 << 10;
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Of what somebody sends that is refused so much is read, for so long, for the refusal to arrive.
const DRAINED: u64 = 1 << 20;
const DRAINS: Duration = Duration::from_secs(2);
/// The longest name of a host ([RFC 1035](https://www.rfc-editor.org/rfc/rfc1035), 2.3.4).
const MAX_NAME: usize = 253;
/// Each address of a host has so long to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// What is between two parties of a connection only, and what is said of it anew.
const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "upgrade",
];

/// Returns whether what begins so is meant for a proxy; `None` where more has to come.
pub(crate) fn is_for_a_proxy(begin: &[u8]) -> Option<bool> {
    let line = match begin.iter().position(|byte| *byte == b'\n') {
        Some(end) => &begin[..end],
        None if begin.len() >= MAX_HEAD => return Some(false),
        None => return None,
    };
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Some(method == b"CONNECT" || !target.starts_with(b"/"))
}

/// What is asked of a proxy.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    host: String,
    port: u16,
    /// What goes on to the host: the head as it is there; nothing for a tunnel.
    head: Option<String>,
}

/// Answers one that is meant for a proxy, of which this much has come; returns the connection to the host, what goes there
/// first, and what the client is told first.
///
/// # Errors
///
/// When the client goes away; what it may not reach, or is not there, it is told.
pub(crate) fn serve(
    inside: &mut TcpStream,
    mut come: Vec<u8>,
    egress: &Egress,
    until: Instant,
) -> io::Result<Option<(TcpStream, Vec<u8>)>> {
    let mut looked = 0;
    let end = loop {
        let from = looked;
        if let Some(at) = come[from..].windows(4).position(|four| four == b"\r\n\r\n") {
            break from + at + 4;
        }
        if come[from..].windows(2).any(|two| two == b"\n\n") {
            return refuse(inside, "400 Bad Request", "its lines end by a line feed alone");
        }
        looked = come.len().saturating_sub(3);
        if come.len() > MAX_HEAD {
            return refuse(inside, "431 Request Header Fields Too Large", "its head is too long");
        }
        if more(inside, &mut come, until)? == 0 {
            return Ok(None);
        }
    };
    inside.set_read_timeout(None)?;
    let rest = come.split_off(end);
    let asked = match read(&come) {
        Ok(asked) => asked,
        Err(why) => return refuse(inside, "400 Bad Request", why),
    };
    let addresses = match egress.addresses(&asked.host, asked.port) {
        Ok(addresses) => addresses,
        Err(why @ Refused::NotFound(..)) => {
            return refuse(inside, "502 Bad Gateway", &why.to_string());
        }
        Err(why) => return refuse(inside, "403 Forbidden", &why.to_string()),
    };
    let outside = match connect(&addresses, &asked.host) {
        Ok(Some(outside)) => outside,
        Ok(None) => {
            let why = Refused::Inward(named(&asked.host, asked.port));
            return refuse(inside, "403 Forbidden", &why.to_string());
        }
        Err(error) => {
            let why = format!("{} does not answer: {error}", named(&asked.host, asked.port));
            return refuse(inside, "502 Bad Gateway", &why);
        }
    };
    let first = match asked.head {
        Some(head) => [head.into_bytes(), rest].concat(),
        None => {
            inside.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            rest
        }
    };
    Ok(Some((outside, first)))
}

/// Reads what has come by a moment; returns how much.
pub(crate) fn more(
    inside: &mut TcpStream,
    come: &mut Vec<u8>,
    until: Instant,
) -> io::Result<usize> {
    let left = until.saturating_duration_since(clock::monotonic());
    if left.is_zero() {
        return Ok(0);
    }
    inside.set_read_timeout(Some(left))?;
    let mut bytes = [0; 4 << 10];
    let count = inside.read(&mut bytes)?;
    come.extend_from_slice(&bytes[..count]);
    Ok(count)
}

/// Goes to a host; `None` where that is this machine after all.
fn connect(addresses: &[SocketAddr], host: &str) -> io::Result<Option<TcpStream>> {
    let mut last = io::Error::other("it has no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT) {
            Ok(stream) => {
                let (from, to) = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
                return Ok(Some(stream).filter(|_| !Egress::is_own(host, from, to)));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn refuse<T>(inside: &mut TcpStream, status: &str, why: &str) -> io::Result<Option<T>> {
    let body = format!("muster: {why}\n");
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    inside.write_all((head + &body).as_bytes())?;
    // What comes and is not read would take the answer away with it.
    inside.shutdown(Shutdown::Write)?;
    inside.set_read_timeout(Some(DRAINS))?;
    drop(io::copy(&mut inside.take(DRAINED), &mut io::sink()));
    Ok(None)
}

/// Reads the fields of a head: names, and values as they are. None where a line is no field, as one that goes on with the one
/// before.
fn fields(text: &str) -> Option<Vec<(&str, &str)>> {
    let lines = text.split("\r\n").filter(|line| !line.is_empty());
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    lines
        .map(|line| line.split_once(':').filter(|(name, _)| is_name(name)))
        .map(|field| field.filter(|(_, value)| !value.contains(['\r', '\n'])))
        .collect()
}

/// Reads a head.
fn read(head: &[u8]) -> Result<Asked, &'static str> {
    let head = std::str::from_utf8(head).map_err(|_| "the head of the request is no text")?;
    let (line, rest_of_head) = head.split_once("\r\n").ok_or("the request has no line")?;
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = *words else { return Err("the request's line is garbled") };
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Err("the request is of no version that is known");
    }
    let fields = fields(rest_of_head).ok_or("a field of the request is garbled")?;
    let is_host = |host: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        !host.is_empty() && host.len() <= MAX_NAME && host.bytes().all(plain)
    };
    let no_host = "what is asked for is no name of a host";
    if method == "CONNECT" {
        let (host, port) = split(target).ok_or("what CONNECT names is no host and port")?;
        let port = port.ok_or("what CONNECT names has no port")?;
        if !is_host(&host) {
            return Err(no_host);
        }
        return Ok(Asked { host, port, head: None });
    }
    let rest = target.get(7..).filter(|_| target[..7].eq_ignore_ascii_case("http://"));
    let rest = rest.ok_or("only http:// goes through a proxy as it is; all else by CONNECT")?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = split(authority).ok_or("the address has no host")?;
    if !is_host(&host) {
        return Err(no_host);
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let named = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
    let named: Vec<&str> = named.flat_map(|(_, names)| names.split(',')).map(str::trim).collect();
    let is_between = |name: &str| {
        HOP_BY_HOP.iter().chain(&named).any(|between| name.eq_ignore_ascii_case(between))
    };
    let mut ours = format!("{method} {slash}{path} {version}\r\nhost: {authority}\r\n");
    for (name, value) in fields.iter().filter(|(name, _)| !is_between(name)) {
        ours.extend([*name, ":", *value, "\r\n"]);
    }
    // Whatever comes next on this connection is another request, for which another is made.
    ours.push_str("connection: close\r\n\r\n");
    Ok(Asked { host, port: port.unwrap_or(80), head: Some(ours) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_is_read_as_it_is_meant() {
        let tunnel = read(b"CONNECT Crates.io:443 HTTP/1.1\r\nHost: other\r\n\r\n").unwrap();
        assert_eq!(tunnel, Asked { host: "crates.io".into(), port: 443, head: None });
        let request = read(
            b"GET http://me@a.example:8080/x?y HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\nAccept: */*\r\n\r\n",
        );
        let request = request.unwrap();
        assert_eq!((&*request.host, request.port), ("a.example", 8080));
        assert_eq!(
            request.head.unwrap(),
            "GET /x?y HTTP/1.1\r\nhost: a.example:8080\r\nAccept: */*\r\nconnection: close\r\n\r\n"
        );
        for wrong in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"CONNECT a HTTP/1.1\r\n\r\n",
            b"GET ftp://a/ HTTP/1.1\r\n\r\n",
            b"GET http:// HTTP/1.1\r\n\r\n",
            b"GET http://a/\r\n\r\n",
            b"GET http://a/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            b"GET http://a/ HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
            b"CONNECT evil\n\x1b[31m:1 HTTP/1.1\r\n\r\n",
            b"CONNECT a%2eb:1 HTTP/1.1\r\n\r\n",
        ] {
            assert!(read(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        assert_eq!(is_for_a_proxy(b"GET /twirp HTTP/1.1\r\n"), Some(false));
        assert_eq!(is_for_a_proxy(b"GET http://a/ HTTP/1.1\r\n"), Some(true));
        assert_eq!(is_for_a_proxy(b"CONN"), None);
    }

    proptest! {
        #[test]
        fn heads_never_panic(head in "(GET|CONNECT) [ -~é]{0,40} HTTP/1.1\r\n([a-zA-Z-]{0,8}: ?[ -~]{0,8}\r\n){0,3}\r\n") {
            drop(read(head.as_bytes()));
            let _ = is_for_a_proxy(head.as_bytes());
        }
    }
}
