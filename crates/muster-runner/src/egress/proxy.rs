//! A proxy for HTTP ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110), 7.6 and 9.3.6): tunnels by CONNECT, and requests for a
//! whole address, one for each connection.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{Egress, Refused, named, split};

/// A head has no more bytes, and comes within this time.
const MAX_HEAD: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(30);
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
) -> io::Result<Option<(TcpStream, Vec<u8>)>> {
    inside.set_read_timeout(Some(PATIENCE))?;
    let end = loop {
        if let Some(at) = come.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let mut bytes = [0; 4 << 10];
        let count = inside.read(&mut bytes)?;
        if count == 0 || come.len() > MAX_HEAD {
            return Ok(None);
        }
        come.extend_from_slice(&bytes[..count]);
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
    let outside = match connect(&addresses) {
        Ok(outside) => outside,
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

fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::other("it has no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, CONNECT) {
            Ok(stream) => return Ok(stream),
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
    Ok(None)
}

/// Reads a head.
fn read(head: &[u8]) -> Result<Asked, &'static str> {
    let head = std::str::from_utf8(head).map_err(|_| "the head of the request is no text")?;
    let (line, fields) = head.split_once("\r\n").ok_or("the request has no line")?;
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = *words else { return Err("the request's line is garbled") };
    if !version.starts_with("HTTP/1.") {
        return Err("the request is of no version that is known");
    }
    if method == "CONNECT" {
        let (host, port) = split(target).ok_or("what CONNECT names is no host and port")?;
        let port = port.ok_or("what CONNECT names has no port")?;
        return Ok(Asked { host, port, head: None });
    }
    let rest = target.get(7..).filter(|_| target[..7].eq_ignore_ascii_case("http://"));
    let rest = rest.ok_or("only http:// goes through a proxy as it is; all else by CONNECT")?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = split(authority).ok_or("the address has no host")?;
    if host.is_empty() {
        return Err("the address has no host");
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut ours = format!("{method} {slash}{path} HTTP/1.1\r\nhost: {authority}\r\n");
    for field in fields.split("\r\n").filter(|field| !field.is_empty()) {
        let name = field.split(':').next().unwrap_or_default().trim();
        if !HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop)) {
            ours.push_str(field);
            ours.push_str("\r\n");
        }
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
