//! Headers and error texts as no registry would write them.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};

use super::challenge::{self, Challenge};
use super::download::begins;
use super::retry::{asked, complaint, in_words};
use super::transport::{joined, origin};
use crate::fuzz::drive::Target;

const HEADERS: &[&str] = &[
    "Bearer ",
    "Basic ",
    "realm=",
    "service=",
    "scope=",
    "\"",
    "\\\"",
    ", ",
    "=",
    "https://",
    "http://",
    "//",
    "\\\\",
    "/v2/",
    "../",
    "?",
    "#",
    "@",
    "[::1]",
    ":5000",
    "bytes ",
    "7-",
    "*/100",
    "GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "99999999999999999999",
    "1e300",
    "-1",
    "retry-after: ",
    "ms",
    "µs",
    "h",
    "{\"errors\":[",
    "\"code\":",
    "\"message\":",
    "\u{1b}[31m",
    "%00",
    "xn--",
    "file:",
    "data:",
    "\t",
];

/// What every header would be read as.
fn headers(bytes: &[u8]) -> String {
    let complaint = complaint(bytes);
    if let Some(text) = &complaint {
        assert!(!text.chars().any(char::is_control) && text.chars().count() <= 200, "{text:?}");
    }
    let text = String::from_utf8_lossy(bytes);
    let challenges = challenge::parse(&text);
    assert!(challenges.len() <= text.len(), "more challenges than letters");
    let realms = challenges.iter().filter_map(|one| match one {
        Challenge::Bearer { realm, .. } => Some(realm.len()),
        Challenge::Basic => None,
    });
    assert!(realms.sum::<usize>() <= text.len(), "more in the realms than in the header");
    let wait = HeaderValue::from_bytes(bytes).ok().and_then(|value| {
        let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
        asked(&HeaderMap::from_iter([(RETRY_AFTER, value), (DATE, date)]))
    });
    let words = in_words(&text);
    let begins = [0, 7, u64::MAX].map(|byte| begins(&text, byte));
    assert!(begins.iter().filter(|begins| **begins).count() <= 1, "it begins in two places");
    let base: Url = "https://registry.example.com:5000/v2/a/b/blobs/uploads/".parse().unwrap();
    let url = joined(&base, &text);
    if let Some(url) = &url {
        // Only what names a host leads to another one. Blanks and line ends mean nothing in a URL.
        let plain: String = text.chars().filter(|c| !matches!(c, '\t' | '\n' | '\r')).collect();
        let plain = plain.trim_matches(|c: char| c <= ' ');
        let named =
            plain.contains(':') || plain.starts_with(['/', '\\']) && plain[1..].starts_with(['/', '\\']);
        assert!(named || origin(url) == origin(&base), "{text:?} leads to {url}");
    }
    let place = url.as_ref().map(|url| {
        let scheme = ["http", "https"].iter().find(|scheme| **scheme == url.scheme());
        (scheme, origin(url) == origin(&base), url.query().is_some())
    });
    let kinds: Vec<bool> = challenges.iter().map(|one| *one == Challenge::Basic).take(3).collect();
    let waits = (wait.map(|wait| wait > Duration::ZERO), words.map(|wait| wait > Duration::from_mins(1)));
    format!("{} {kinds:?} {waits:?} {begins:?} {place:?}", complaint.is_some())
}

pub(crate) const TARGETS: &[Target] =
    &[Target { name: "headers", seeds: Vec::new, words: HEADERS, run: headers, least: 30 }];

#[test]
fn whatever_a_registry_says_in_a_header_it_is_read_or_passed_over() {
    TARGETS[0].drive();
}
