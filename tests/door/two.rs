//! HTTP/2 as a client sends it that does not keep to it (RFC 9113, section 8.2 and 8.3): the door speaks HTTP/1.1 to the
//! services, and what has no meaning there must not come out as something else.

use std::time::Duration;

use crate::backend::Backend;
use crate::client::Way;
use crate::site::{DOMAIN, OTHER, Site, table};
use crate::smuggle::requests;

/// A field as it stands in a HEADERS frame: literal, never indexed, not compressed (RFC 7541, section 6.2.3).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        assert!(text.len() < 127, "{text}");
        [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    [vec![0x10], text(name), text(value)].concat()
}

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A request of these fields, the usual ones before them unless they are among them, and this body.
fn request(fields: &[(&str, &str)], body: Option<&str>) -> Vec<u8> {
    let usual = [(":method", "POST"), (":scheme", "https"), (":authority", DOMAIN), (":path", "/")];
    let usual = usual.into_iter().filter(|(name, _)| !fields.iter().any(|(own, _)| own == name));
    // What begins with a colon comes first, or all is refused for that alone.
    let (pseudo, others): (Vec<_>, Vec<_>) =
        usual.chain(fields.iter().copied()).partition(|(name, _)| name.starts_with(':'));
    let block: Vec<u8> = pseudo.iter().chain(&others).flat_map(|(name, value)| field(name, value)).collect();
    let start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let flags = if body.is_some() { 0x4 } else { 0x5 };
    let body = body.map(|body| frame(0, 1, 1, body.as_bytes())).unwrap_or_default();
    [start, frame(4, 0, 0, &[]), frame(1, flags, 1, &block), body].concat()
}

/// What became of the stream: the status of its answer, as its first field says it, or how it was refused.
fn became(mut bytes: &[u8]) -> String {
    let mut said = Vec::new();
    while bytes.len() >= 9 {
        let length = usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        match (bytes[3], bytes[9..].first()) {
            // Of the statuses, 200, 400 and 404 have numbers of their own (RFC 7541, appendix A).
            (1, Some(0x88)) => said.push("200"),
            (1, Some(0x8c)) => said.push("400"),
            (1, Some(0x8d)) => said.push("404"),
            (1, _) => said.push("another status"),
            (3, _) => said.push("stream reset"),
            (7, _) => said.push("connection ended"),
            _ => {}
        }
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
}

/// What is odd, whether it may reach a service in a form that has one meaning, the fields, the body.
type Case<'a> = (&'a str, bool, &'a [(&'a str, &'a str)], Option<&'a str>);

in_a_room! {
    fn what_http_2_cannot_say_does_not_become_http_1() {
        let site = Site::open("");
        let hidden = "GET /.bundle/x HTTP/1.1\r\nHost: bot.test\r\n\r\n";
        let line = "/ HTTP/1.1\r\nHost: bot.test\r\n\r\nGET /.bundle/x HTTP/1.1\r\nX: ";
        let cases: &[Case<'_>] = &[
            ("nothing", true, &[], Some("12345")),
            ("a coding", false, &[("transfer-encoding", "chunked")], Some(hidden)),
            ("a coding in disguise", false, &[("transfer-encoding ", "chunked")], Some(hidden)),
            ("a length of 0 and a body", false, &[("content-length", "0")], Some(hidden)),
            ("a length that is too small", false, &[("content-length", "3")], Some("12345")),
            ("a length that is too large", false, &[("content-length", "9")], Some("12345")),
            ("two lengths", false, &[("content-length", "5"), ("content-length", "0")], Some("12345")),
            ("a length with a sign", false, &[("content-length", "+5")], Some("12345")),
            ("a connection", false, &[("connection", "upgrade"), ("upgrade", "h2c")], None),
            ("a line break in a value", false, &[("x", "a\r\nTransfer-Encoding: chunked")], Some(hidden)),
            ("LF in a value", false, &[("x", "a\ny: b")], None),
            ("CR in a value", false, &[("x", "a\rb")], None),
            ("NUL in a value", false, &[("x", "a\0b")], None),
            ("a line break in a name", false, &[("x: a\r\ny", "b")], None),
            ("a colon in a name", false, &[("x:y", "b")], None),
            ("a space in a name", false, &[("x y", "b")], None),
            ("an upper-case name", false, &[("X", "b")], None),
            ("an empty name", false, &[("", "b")], None),
            ("a line break in the path", false, &[(":path", line)], None),
            ("a space in the path", false, &[(":path", "/ HTTP/1.1")], None),
            ("no slash in the path", false, &[(":path", "x")], None),
            ("a line break in the method", false, &[(":method", "GET / HTTP/1.1\r\nX: y\r\n\r\nGET")], None),
            ("a space in the method", false, &[(":method", "GET /.bundle/x")], None),
            ("a line break in the authority", false, &[(":authority", "bot.test\r\nX: y")], None),
            ("another host", true, &[("host", "hook.test")], None),
            ("two authorities", false, &[(":authority", "bot.test"), (":authority", "hook.test")], None),
            ("two paths", false, &[(":path", "/"), (":path", "/.bundle/x")], None),
            ("an unknown pseudo-field", false, &[(":x", "y")], None),
            ("a hidden path", false, &[(":path", "/.bundle/backend/health")], None),
            ("a scheme with a line break", false, &[(":scheme", "https://x\r\ny: z")], None),
        ];
        let (mut lines, mut wrong) = (Vec::new(), Vec::new());
        for (what, may, fields, body) in cases {
            let mut client = Way { two: true, ..Way::new(OTHER, DOMAIN) }.connect().unwrap();
            client.patience(Duration::from_millis(300));
            drop(client.send(&request(fields, *body)));
            let said = became(&client.rest());
            let mut reached = Vec::new();
            for bytes in site.backends().iter().flat_map(Backend::seen) {
                match requests(&bytes) {
                    Ok(requests) => reached.extend(requests),
                    Err(why) => wrong.push(format!("{what}: {why}: {:?}", String::from_utf8_lossy(&bytes))),
                }
            }
            if reached.len() > usize::from(*may) || reached.iter().any(|line| line.contains("bundle")) {
                wrong.push(format!("{what}: {said}, and a service saw {reached:?}"));
            }
            lines.push(((*what).to_owned(), format!("{said}{}", if reached.is_empty() { "" } else { ", one request" })));
        }
        println!("{}", table("over HTTP/2", &lines));
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(lines[0].1.contains("200, one request"), "what is sound passes: {:?}", lines[0]);
    }
}
