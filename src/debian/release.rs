//! A suite's `Release` file, as its signature covers it (<https://wiki.debian.org/DebianRepository/Format>): how long it
//! is valid, and the SHA-256 of every index.

use std::collections::BTreeMap;
use std::io;

use super::DebianError;
use super::control::Paragraph;
use crate::model::Digest;

/// What a suite's signed file says.
#[derive(Debug)]
pub(crate) struct Release {
    names: Vec<String>,
    architectures: Vec<String>,
    valid_until: Option<String>,
    /// When it was made, in the form of RFC 3339.
    pub(crate) date: Option<String>,
    by_hash: bool,
    all_apart: bool,
    files: BTreeMap<String, (Digest, u64)>,
}

/// One index: its path below the suite, where to fetch it, and what it is.
#[derive(Debug, Clone)]
pub(crate) struct IndexFile {
    pub(crate) path: String,
    pub(crate) fetch: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A time as a release writes it.
fn time(text: &str) -> Result<jiff::Timestamp, jiff::Error> {
    jiff::fmt::rfc2822::parse(&text.replace("UTC", "+0000")).map(|time| time.timestamp())
}

impl Release {
    /// Reads the text that was signed.
    pub(crate) fn parse(url: &str, text: &str) -> Result<Self, DebianError> {
        let fault = |reason: String| DebianError::Index { url: url.to_owned(), reason };
        let mut paragraphs = Vec::new();
        Paragraph::each(text.as_bytes(), |paragraph| {
            paragraphs.push(paragraph);
            Ok::<_, io::Error>(())
        })
        .map_err(|error| fault(error.to_string()))?;
        let [paragraph] = &*paragraphs else {
            return Err(fault(format!("it has {} paragraphs instead of one", paragraphs.len())));
        };
        let words = |name: &str| {
            paragraph.get(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let mut files = BTreeMap::new();
        let sums = paragraph.get("sha256").ok_or_else(|| fault("it has no SHA-256 sums".to_owned()))?;
        for line in sums.lines().filter(|line| !line.trim().is_empty()) {
            let parts: Vec<_> = line.split_whitespace().collect();
            let entry = match parts[..] {
                [digest, size, path] => {
                    Digest::from_hex(digest).ok().zip(size.parse().ok()).map(|sum| (path, sum))
                }
                _ => None,
            };
            let (path, sum) = entry.ok_or_else(|| fault(format!("`{}` is no sum", line.escape_debug())))?;
            files.insert(path.to_owned(), sum);
        }
        let architectures = words("architectures");
        let apart = architectures.iter().any(|name| name == "all")
            && paragraph.get("no-support-for-architecture-all") != Some("Packages");
        Ok(Self {
            names: [words("codename"), words("suite")].concat(),
            architectures,
            valid_until: paragraph.get("valid-until").map(str::to_owned),
            date: paragraph.get("date").and_then(|date| time(date).ok()).map(|date| date.to_string()),
            by_hash: paragraph.get("acquire-by-hash") == Some("yes"),
            all_apart: apart,
            files,
        })
    }

    /// Refuses a file that is signed, but for another suite, or for another time: `now`, in seconds since 1970.
    pub(crate) fn check(&self, url: &str, suite: &str, now: Option<i64>) -> Result<(), DebianError> {
        if !self.names.iter().any(|name| name == suite) {
            let found = self.names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let reason = format!("it is of the suite {found}, and `{suite}` was asked for");
            return Err(DebianError::Index { url: url.to_owned(), reason });
        }
        let (Some(now), Some(until)) = (now, &self.valid_until) else { return Ok(()) };
        let end = time(until).map_err(|error| DebianError::Index {
            url: url.to_owned(),
            reason: format!("`Valid-Until: {until}` is no time: {error}"),
        })?;
        if now > end.as_second() {
            return Err(DebianError::Expired { url: url.to_owned(), until: until.clone() });
        }
        Ok(())
    }

    /// The indexes of a component that hold packages of an architecture.
    pub(crate) fn indexes(&self, component: &str, architecture: &str) -> Result<Vec<IndexFile>, String> {
        if !self.architectures.is_empty() && !self.architectures.iter().any(|name| name == architecture) {
            return Err(format!(
                "it has no packages for `{architecture}`, only for {}",
                self.architectures.join(", ")
            ));
        }
        let mut found = Vec::new();
        let apart = ["all"].into_iter().filter(|_| self.all_apart);
        for (number, architecture) in [architecture].into_iter().chain(apart).enumerate() {
            let stem = format!("{component}/binary-{architecture}/Packages");
            let file = ["xz", "gz"].iter().find_map(|kind| {
                let path = format!("{stem}.{kind}");
                let (digest, size) = *self.files.get(&path)?;
                let folder = path.rsplit_once('/')?.0;
                let fetch = if self.by_hash {
                    format!("{folder}/by-hash/SHA256/{}", digest.hex())
                } else {
                    path.clone()
                };
                Some(IndexFile { path, fetch, digest, size })
            });
            match file {
                Some(file) => found.push(file),
                None if number > 0 => {}
                None => return Err(format!("it names no `{stem}.xz`")),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn release() -> Release {
        let text = format!(
            "Codename: trixie-updates\nSuite: stable-updates\nValid-Until: Fri, 27 Nov 2026 02:11:10 UTC\n\
             Acquire-By-Hash: yes\nArchitectures: all amd64\nNo-Support-for-Architecture-all: Packages\n\
             SHA256:\n {SUM} 7 main/binary-amd64/Packages.xz\n"
        );
        Release::parse("u", &text).unwrap()
    }

    #[test]
    fn a_release_is_for_one_suite_and_one_time() {
        let release = release();
        assert!(release.check("u", "trixie-updates", Some(1_795_745_470)).is_ok());
        let late = release.check("u", "stable-updates", Some(1_795_745_471)).unwrap_err();
        assert!(matches!(late, DebianError::Expired { .. }), "{late}");
        assert!(release.check("u", "stable-updates", None).is_ok());
        let other = release.check("u", "bookworm", None).unwrap_err().to_string();
        assert!(other.contains("`trixie-updates`") && other.contains("`bookworm`"), "{other}");
    }

    #[test]
    fn an_index_is_fetched_by_its_hash() {
        let indexes = release().indexes("main", "amd64").unwrap();
        assert_eq!(indexes.len(), 1);
        assert_eq!(indexes[0].fetch, format!("main/binary-amd64/by-hash/SHA256/{SUM}"));
        assert!(release().indexes("main", "s390x").unwrap_err().contains("`s390x`"));
        assert!(release().indexes("contrib", "amd64").is_err());
    }
}
