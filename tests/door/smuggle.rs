//! Requests that two readers could understand in two ways (RFC 9112, section 11.2). Each is refused, or reaches the
//! service in a form that has one meaning; and never brings a second one along that nobody has looked at.

use std::time::Duration;

use crate::backend::{Backend, find};
use crate::client::Client;
use crate::site::{CLIENT, DOMAIN, OTHER, Site, table};

/// A request that only a request nobody has looked at could be: the door answers this path itself.
const HIDDEN: &str = "GET /.bundle/backend/health HTTP/1.1\r\nHost: bot.test\r\n\r\n";

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Refused, and no byte of it has reached a service.
    Refused,
    /// One request with one meaning, or none.
    OneMeaning,
}
use Wanted::{OneMeaning, Refused};

/// What is sent, by what is odd about it.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn cases() -> Vec<(&'static str, Wanted, String)> {
    let post =
        |headers: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: bot.test\r\n{headers}\r\n\r\n{body}");
    let long = HIDDEN.len() + 5;
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body);
    let get = |headers: &str| format!("GET / HTTP/1.1\r\nHost: bot.test\r\n{headers}\r\n\r\n");
    let after = |start: &str| format!("{start}{HIDDEN}");
    vec![
        // Content-Length.
        ("two lengths", Refused, post("Content-Length: 5\r\nContent-Length: 6", "12345")),
        ("two lengths that agree", OneMeaning, post("Content-Length: 5\r\nContent-Length: 5", "12345")),
        ("a list of lengths", Refused, post("Content-Length: 5, 6", "12345")),
        ("a length with a sign", Refused, post("Content-Length: +5", "12345")),
        ("a negative length", Refused, post("Content-Length: -1", "12345")),
        ("a hexadecimal length", Refused, post("Content-Length: 0x5", "12345")),
        ("a length and a letter", Refused, post("Content-Length: 5a", "12345")),
        ("an empty length", Refused, post("Content-Length: ", "12345")),
        ("a length of two words", Refused, post("Content-Length: 5 6", "12345")),
        ("a length beyond 64 bits", Refused, post("Content-Length: 18446744073709551621", "12345")),
        ("a length with a space before its colon", Refused, post("Content-Length : 5", "12345")),
        (
            "a length and a body in a GET",
            OneMeaning,
            format!("GET / HTTP/1.1\r\nHost: bot.test\r\nContent-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len()),
        ),
        // Both.
        (
            "CL.TE",
            OneMeaning,
            post(&format!("Content-Length: {long}\r\nTransfer-Encoding: chunked"), &after("0\r\n\r\n")),
        ),
        (
            "TE.CL",
            OneMeaning,
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 4",
                &format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()),
            ),
        ),
        ("CL.0", OneMeaning, post("Content-Length: 0\r\nTransfer-Encoding: chunked", &after("0\r\n\r\n"))),
        (
            "a chunked HTTP/1.0",
            OneMeaning,
            format!(
                "POST / HTTP/1.0\r\nHost: bot.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"
            ),
        ),
        // Transfer-Encoding.
        (
            "two codings",
            Refused,
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", &after("0\r\n\r\n")),
        ),
        ("chunked twice", Refused, post("Transfer-Encoding: chunked, chunked", &after("0\r\n\r\n"))),
        ("chunked, but not last", Refused, post("Transfer-Encoding: chunked, gzip", &after("0\r\n\r\n"))),
        ("identity", Refused, post("Transfer-Encoding: identity", &after("0\r\n\r\n"))),
        ("an unknown coding", Refused, post("Transfer-Encoding: xchunked", &after("0\r\n\r\n"))),
        (
            "an unknown coding beside a length",
            Refused,
            post("Content-Length: 5\r\nTransfer-Encoding: xchunked", &after("0\r\n\r\n")),
        ),
        ("an empty coding", Refused, post("Transfer-Encoding: ", &after("0\r\n\r\n"))),
        (
            "a coding with a vertical tab",
            Refused,
            post("Transfer-Encoding: \u{b}chunked", &after("0\r\n\r\n")),
        ),
        (
            "a coding with a space before its colon",
            Refused,
            post("Transfer-Encoding : chunked", &after("0\r\n\r\n")),
        ),
        (
            "a coding with a tab before its colon",
            Refused,
            post("Transfer-Encoding\t: chunked", &after("0\r\n\r\n")),
        ),
        (
            "a coding on a line of its own",
            OneMeaning,
            post("Transfer-Encoding:\r\n chunked", &after("0\r\n\r\n")),
        ),
        ("a coding after a bare CR", Refused, post("X: y\rTransfer-Encoding: chunked", &after("0\r\n\r\n"))),
        ("a coding with an underscore", Refused, post("Transfer_Encoding: chunked", &after("0\r\n\r\n"))),
        // Chunks.
        ("a chunk's size with 0x", Refused, chunked("0x5\r\n12345\r\n0\r\n\r\n")),
        ("a chunk's size with a sign", Refused, chunked("+5\r\n12345\r\n0\r\n\r\n")),
        ("a negative chunk", Refused, chunked("-1\r\n12345\r\n0\r\n\r\n")),
        ("a chunk beyond 64 bits", Refused, chunked("10000000000000005\r\n12345\r\n0\r\n\r\n")),
        ("a chunk without a size", Refused, chunked("\r\n12345\r\n0\r\n\r\n")),
        ("a chunk longer than its size", Refused, chunked("5\r\n1234567\r\n0\r\n\r\n")),
        ("a chunk that ends in LF alone", OneMeaning, chunked("5\n12345\n0\n\n")),
        (
            "an extension with a line break",
            OneMeaning,
            chunked(&format!("5;a\nb\r\n12345\r\n0\r\n\r\n{HIDDEN}")),
        ),
        ("a trailer with a length", OneMeaning, chunked("5\r\n12345\r\n0\r\nContent-Length: 90\r\n\r\n")),
        (
            "a trailer that is no header",
            OneMeaning,
            chunked(&format!("0\r\nGET /.bundle/x HTTP/1.1\r\n\r\n{HIDDEN}")),
        ),
        // Names of the host.
        ("two hosts", Refused, "GET / HTTP/1.1\r\nHost: bot.test\r\nHost: hook.test\r\n\r\n".to_owned()),
        (
            "two hosts that agree",
            OneMeaning,
            "GET / HTTP/1.1\r\nHost: bot.test\r\nHost: bot.test\r\n\r\n".to_owned(),
        ),
        ("a list of hosts", Refused, "GET / HTTP/1.1\r\nHost: bot.test, hook.test\r\n\r\n".to_owned()),
        ("no host", Refused, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("an empty host", Refused, "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned()),
        ("a host with somebody's name", Refused, "GET / HTTP/1.1\r\nHost: a@bot.test\r\n\r\n".to_owned()),
        ("a host with a path", Refused, "GET / HTTP/1.1\r\nHost: bot.test/x\r\n\r\n".to_owned()),
        (
            "a host on a line of its own",
            OneMeaning,
            "GET / HTTP/1.1\r\nHost:\r\n bot.test\r\n\r\n".to_owned(),
        ),
        (
            "another host in the line",
            Refused,
            "GET https://hook.test/ HTTP/1.1\r\nHost: bot.test\r\n\r\n".to_owned(),
        ),
        (
            "a stranger in the line",
            Refused,
            "GET https://stranger.test/ HTTP/1.1\r\nHost: bot.test\r\n\r\n".to_owned(),
        ),
        (
            "a hidden path in an absolute line",
            Refused,
            "GET https://bot.test/.bundle/backend/health HTTP/1.1\r\nHost: bot.test\r\n\r\n".to_owned(),
        ),
        // The request line.
        ("three spaces", OneMeaning, "GET  /  HTTP/1.1\r\nHost: bot.test\r\n\r\n".to_owned()),
        ("a tab for a space", OneMeaning, "GET\t/\tHTTP/1.1\r\nHost: bot.test\r\n\r\n".to_owned()),
        ("words after the version", Refused, "GET / HTTP/1.1 x\r\nHost: bot.test\r\n\r\n".to_owned()),
        ("HTTP/0.9", Refused, "GET /\r\n".to_owned()),
        ("HTTP/1.9", OneMeaning, "GET / HTTP/1.9\r\nHost: bot.test\r\n\r\n".to_owned()),
        ("a version of letters", Refused, "GET / HTTP/x.y\r\nHost: bot.test\r\n\r\n".to_owned()),
        ("NUL in the path", Refused, "GET /\0 HTTP/1.1\r\nHost: bot.test\r\n\r\n".to_owned()),
        ("a space in the path", Refused, "GET /a b HTTP/1.1\r\nHost: bot.test\r\n\r\n".to_owned()),
        ("a path without its slash", Refused, "GET a HTTP/1.1\r\nHost: bot.test\r\n\r\n".to_owned()),
        ("lines that end in LF alone", OneMeaning, "GET / HTTP/1.1\nHost: bot.test\n\n".to_owned()),
        ("an empty line before it", OneMeaning, "\r\nGET / HTTP/1.1\r\nHost: bot.test\r\n\r\n".to_owned()),
        // Headers.
        ("NUL in a value", Refused, get("X: a\0b")),
        ("CR in a value", Refused, get("X: a\rb")),
        (
            "NUL in a value after a long one",
            Refused,
            get(&format!("Y: {}\r\nX: a\0b", "\u{e9}".repeat(6000))),
        ),
        ("NUL in a name", Refused, get("X\0: a")),
        ("a space in a name", Refused, get("X Y: a")),
        ("no name", Refused, get(": a")),
        ("no colon", Refused, get("X")),
        ("a folded value", OneMeaning, get("X: a\r\n b")),
        ("a folded first line", Refused, "GET / HTTP/1.1\r\n X: a\r\nHost: bot.test\r\n\r\n".to_owned()),
        ("a header of 20 KiB", Refused, get(&format!("X: {}", "a".repeat(20 << 10)))),
        (
            "300 headers",
            Refused,
            get(&(0..300).map(|nth| format!("X{nth}: a")).collect::<Vec<_>>().join("\r\n")),
        ),
        // Ways out of HTTP.
        (
            "an upgrade to clear HTTP/2",
            OneMeaning,
            format!(
                "{}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                get(
                    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"
                )
            ),
        ),
        ("an upgrade to two protocols", OneMeaning, get("Connection: Upgrade\r\nUpgrade: websocket, h2c")),
        ("CONNECT", Refused, "CONNECT bot.test:443 HTTP/1.1\r\nHost: bot.test:443\r\n\r\n".to_owned()),
        ("TRACE", Refused, "TRACE / HTTP/1.1\r\nHost: bot.test\r\n\r\n".to_owned()),
    ]
}

/// The requests in what came over one connection; or why it has more than one meaning.
pub(crate) fn requests(mut bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let end = find(bytes, b"\r\n\r\n").ok_or("a header without an end")? + 4;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|error| error.to_string())?;
        bytes = &bytes[end..];
        let bare = |(nth, byte): (usize, u8)| {
            byte == 0
                || (byte == b'\r' && head.as_bytes().get(nth + 1) != Some(&b'\n'))
                || (byte == b'\n' && head.as_bytes()[nth - 1] != b'\r')
        };
        if head.bytes().enumerate().any(bare) {
            return Err(format!("a bare control character: {head:?}"));
        }
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap();
        let old = line.ends_with(" HTTP/1.0");
        if line.split(' ').count() != 3 || !(old || line.ends_with(" HTTP/1.1")) {
            return Err(format!("an odd request line: {line:?}"));
        }
        let (mut lengths, mut codings, mut hosts) = (Vec::new(), Vec::new(), 0);
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(format!("no colon in {line:?}"))?;
            if name.is_empty() || name.bytes().any(|b| b.is_ascii_whitespace()) {
                return Err(format!("an odd name: {line:?}"));
            }
            match name.to_ascii_lowercase().as_str() {
                "content-length" => lengths.push(value.trim().parse::<usize>().map_err(|_| line.to_owned())?),
                "transfer-encoding" => codings.push(value.trim().to_owned()),
                "host" => hosts += 1,
                "upgrade" => return Err(format!("a way out: {line}")),
                _ => {}
            }
        }
        if lengths.len() + codings.len() > 1 || hosts != 1 {
            return Err(format!("{} lengths, {} codings, {hosts} hosts", lengths.len(), codings.len()));
        }
        if let Some(coding) = codings.first() {
            if coding != "chunked" || old {
                return Err(format!("the coding {coding:?}"));
            }
            loop {
                let end = find(bytes, b"\r\n").ok_or("a chunk without an end")?;
                let size = std::str::from_utf8(&bytes[..end]).unwrap();
                if size.is_empty() || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(format!("a chunk's size of {size:?}"));
                }
                let size = usize::from_str_radix(size, 16).unwrap();
                let rest = &bytes[end + 2..];
                if size == 0 {
                    // Trailers are not headers, whatever they are called (RFC 9110, section 6.5).
                    let end = if rest.starts_with(b"\r\n") {
                        0
                    } else {
                        find(rest, b"\r\n\r\n").ok_or("no end")? + 2
                    };
                    bytes = &rest[end + 2..];
                    break;
                }
                if rest.len() < size + 2 || &rest[size..size + 2] != b"\r\n" {
                    return Err("a chunk of another length".to_owned());
                }
                bytes = &rest[size + 2..];
            }
        } else if let Some(length) = lengths.first() {
            bytes = bytes.get(*length..).ok_or("a body that is too short")?;
        }
        found.push(line.to_owned());
    }
    Ok(found)
}

/// Says it, and gives what came back: the statuses until nothing more comes.
fn say(bytes: &[u8]) -> Vec<u16> {
    let mut client = Client::connect(OTHER, DOMAIN).unwrap();
    client.patience(Duration::from_millis(400));
    // It may have been refused before it was said to the end.
    drop(client.send(bytes));
    let mut statuses = Vec::new();
    while let Ok(answer) = client.answer() {
        statuses.push(answer.status);
    }
    statuses
}

in_a_room! {
    fn what_has_two_meanings_is_refused_or_has_one_when_it_reaches_a_service() {
        let site = Site::open("");
        let all = || site.backends().iter().flat_map(Backend::seen).collect::<Vec<_>>();
        let (mut lines, mut wrong) = (Vec::new(), Vec::new());
        for (what, wanted, text) in cases() {
            let statuses = say(text.as_bytes());
            let seen = all();
            let mut reached = Vec::new();
            for bytes in &seen {
                match requests(bytes) {
                    Ok(requests) => reached.extend(requests),
                    Err(why) => wrong.push(format!("{what}: {why}: {:?}", String::from_utf8_lossy(bytes))),
                }
            }
            let hidden = reached.iter().any(|line| line.contains("/.bundle") || line.contains("/readyz"));
            let most = usize::from(wanted == OneMeaning);
            let refused = statuses.first().is_none_or(|status| *status >= 400);
            if hidden || reached.len() > most || (wanted == Refused && !refused) {
                wrong.push(format!("{what}: {statuses:?}, and a service saw {reached:?}"));
            }
            let said = if statuses.is_empty() { "closed".to_owned() } else { format!("{statuses:?}") };
            lines.push((what.to_owned(), format!("{said}{}", if reached.is_empty() { "" } else { ", one request" })));
        }
        println!("{}", table(&format!("{} requests, and what became of them", lines.len()), &lines));
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(Client::connect(CLIENT, DOMAIN).unwrap().get("/").unwrap().status, 200);
    }
}

in_a_room! {
    fn what_is_only_unusual_passes() {
        let site = Site::open("");
        let header = |headers: &str| format!("GET /headers HTTP/1.1\r\nHost: bot.test\r\n{headers}\r\n\r\n");
        let ask = |text: &str| {
            let mut client = Client::connect(CLIENT, DOMAIN).unwrap();
            client.send(text.as_bytes()).unwrap();
            client.answer().unwrap()
        };
        let socket = ask(&header("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(socket.body.to_ascii_lowercase().contains("upgrade: websocket"), "{socket:?}");
        let cookie = format!("Cookie: a={}", "abcdef%20;".repeat(800));
        assert_eq!(ask(&header(&cookie)).status, 200, "a header of 8 KB");
        let strange = format!("X: {}", "\u{e9}".repeat(6000));
        assert_eq!(ask(&header(&strange)).status, 431, "12 KB, each byte of which is written in three characters");
        let upload = "a".repeat(300_000);
        for body in [
            format!("Content-Length: 300000\r\n\r\n{upload}"),
            format!("Transfer-Encoding: chunked\r\n\r\n493e0\r\n{upload}\r\n0\r\n\r\n"),
        ] {
            assert_eq!(ask(&format!("POST /x HTTP/1.1\r\nHost: bot.test\r\n{body}")).status, 200);
        }
        let mut patient = Client::connect(CLIENT, DOMAIN).unwrap();
        patient.send(b"POST / HTTP/1.1\r\nHost: bot.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!(patient.answer().unwrap().status, 100);
        patient.send(b"12345").unwrap();
        assert_eq!(patient.answer().unwrap().status, 200);
        assert_eq!(ask("GET / HTTP/1.0\r\nHost: bot.test\r\n\r\n").status, 200);
        drop(site);
    }
}

#[test]
fn the_judge_sees_two_meanings() {
    let good = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET /b HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(requests(good.as_bytes()).unwrap(), ["POST / HTTP/1.1", "GET /b HTTP/1.1"]);
    for wrong in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\nb: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert!(requests(wrong.as_bytes()).is_err(), "{wrong:?}");
    }
}
