//! When to try again, and how long to wait before: as the registry asks, or longer and longer.
#![expect(
    clippy::disallowed_methods,
    reason = "waits that nobody asked for are of random length, so that a crowd parts"
)]

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::RegistryError;
use super::transport::{Call, Transport, authority};

const MAX_COMPLAINT: usize = 64 << 10;

impl Transport {
    /// Does `work` again while it fails in ways that pass, unless the registry asks for more patience than we have.
    pub(super) async fn retry<T>(
        &self,
        mut work: impl AsyncFnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let patience = self.options.patience;
        let mut wait = patience.first_wait;
        for _ in 1..patience.attempts {
            match work().await {
                Err(error)
                    if error.is_passing()
                        && error.retry_after().is_none_or(|asked| asked <= patience.longest_wait) =>
                {
                    let least = error.retry_after().unwrap_or(wait);
                    tokio::time::sleep(least + scattered(wait / 2)).await;
                    wait = (wait * 2).min(patience.longest_wait);
                }
                done => return done,
            }
        }
        work().await
    }

    /// The error for an answer that is not the expected one.
    pub(super) async fn wrong(&self, call: &Call<'_>, response: Response) -> RegistryError {
        let (status, host) = (response.status(), authority(response.url()));
        let (action, repository) = (call.action.to_owned(), call.repository.to_string());
        let mut retry_after = asked(response.headers());
        let said = self.read(call, response, MAX_COMPLAINT).await.unwrap_or_default();
        let mut detail = complaint(&said).map(|text| format!(": {text}")).unwrap_or_default();
        if status == StatusCode::TOO_MANY_REQUESTS {
            // GitHub's registry writes the wait into the message.
            retry_after = retry_after.or_else(|| in_words(&detail));
        }
        // And it says 403 when it is asked too often.
        let limited = String::from_utf8_lossy(&said).contains("rate limit");
        if let Some(asked) = retry_after.filter(|asked| *asked > self.options.patience.longest_wait) {
            detail = format!("{detail}; it asks to be left alone for {} s, try again then", asked.as_secs());
        }
        match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound { action, repository, host, detail },
            StatusCode::FORBIDDEN if !limited => {
                RegistryError::Forbidden { action, repository, host, detail }
            }
            _ => RegistryError::Status { action, repository, host, status, detail, retry_after },
        }
    }
}

/// Somewhere between nothing and all of it.
fn scattered(all: Duration) -> Duration {
    let mut bytes = [0; 4];
    if getrandom::fill(&mut bytes).is_err() {
        return all;
    }
    all.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
}

/// `Retry-After` (RFC 9110, section 10.2.3), in seconds or as a date, which is measured by the answer's own `Date`.
pub(super) fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let until = text(RETRY_AFTER)?;
    if let Ok(seconds) = until.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| DateTimeParser::new().parse_timestamp(text).ok();
    let wait = date(until)?.duration_since(date(text(DATE)?)?);
    Some(Duration::try_from(wait).unwrap_or_default())
}

/// `retry-after: 10.3ms, allowed: 2000/minute`: Go's spelling of a duration.
pub(super) fn in_words(text: &str) -> Option<Duration> {
    let lower = text.to_ascii_lowercase();
    let mut rest = lower.split_once("retry-after:")?.1.trim_start();
    let mut whole = Duration::ZERO;
    let mut any = false;
    while rest.starts_with(|c: char| c.is_ascii_digit()) {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(end);
        let word = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let unit = match &after[..word] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        whole += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()?;
        (rest, any) = (&after[word..], true);
    }
    any.then_some(whole)
}

/// What the registry says about its error (distribution-spec, "Error Codes"), made fit for a terminal.
pub(super) fn complaint(bytes: &[u8]) -> Option<String> {
    let said: Value = serde_json::from_slice(bytes).ok()?;
    let first = said.get("errors").and_then(|errors| errors.get(0)).unwrap_or(&said);
    let word = |key: &str| first.get(key).and_then(Value::as_str).unwrap_or_default();
    let text = format!("{} {}", word("code"), word("message"));
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    Some(text.trim().chars().map(clean).take(200).collect()).filter(|text: &String| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_in_seconds_as_a_date_and_in_words() {
        let read = |pairs: &[(HeaderName, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
            asked(&pairs.collect::<HeaderMap>())
        };
        let date = (DATE, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(read(&[(RETRY_AFTER, " 7 ")]), Some(Duration::from_secs(7)));
        let until = (RETRY_AFTER, "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(read(&[until.clone(), date.clone()]), Some(Duration::from_secs(30)));
        assert_eq!(read(&[until]), None);
        assert_eq!(read(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:07 GMT"), date]), Some(Duration::ZERO));
        assert_eq!(read(&[(RETRY_AFTER, "soon")]), None);
        for (text, expected) in [
            (": TOOMANYREQUESTS retry-after: 10.3ms, allowed: 2000/minute", Some(10.3e-3)),
            ("Retry-After: 1m30s", Some(90.0)),
            ("retry-after: 44.6µs", Some(44.6e-6)),
            ("retry-after: 3", None),
            ("retry-after: soon", None),
            ("", None),
        ] {
            let found = in_words(text).map(|found| found.as_secs_f64());
            let near = |(a, b): (f64, f64)| (a - b).abs() < 1e-8;
            assert!(found.zip(expected).map_or(found == expected, near), "{text}: {found:?}");
        }
    }

    #[test]
    fn a_complaint_is_one_line_of_what_the_registry_says() {
        let errors = br#"{"errors":[{"code":"DENIED","message":"not\u001b[31m you"}]}"#;
        assert_eq!(complaint(errors).as_deref(), Some("DENIED not [31m you"));
        assert_eq!(
            complaint(br#"{"message":"You have exceeded a secondary rate limit"}"#).as_deref(),
            Some("You have exceeded a secondary rate limit")
        );
        assert_eq!(complaint(b"<html>"), None);
        assert_eq!(complaint(b"{}"), None);
    }
}
