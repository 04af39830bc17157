//! Debian's control syntax: paragraphs of fields (`deb822(5)`), and the relations between packages that stand in them
//! (Debian Policy, chapter 7).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{self, BufRead};

use super::version;

/// The longest paragraph that is read, in bytes. `InRelease` is one paragraph; Debian's has some hundred kilobytes.
const MAX_PARAGRAPH: usize = 16 << 20;

/// One paragraph. Names of fields are in lower case; a value's further lines follow it, each after a newline, without
/// the blank in front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paragraph {
    fields: BTreeMap<String, String>,
}

impl Paragraph {
    /// A field's value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Reads the paragraphs of a text, one after the other, and hands each to `take`.
    pub(crate) fn each<E: From<io::Error>>(
        mut reader: impl BufRead,
        mut take: impl FnMut(Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut lines = Vec::new();
        loop {
            let began = lines.len();
            let left = (MAX_PARAGRAPH - began) as u64;
            let read = io::Read::take(&mut reader, left).read_until(b'\n', &mut lines)?;
            if read as u64 == left && left > 0 && lines.last() != Some(&b'\n') || left == 0 {
                return Err(invalid("a paragraph is longer than 16 MiB").into());
            }
            let blank = lines[began..].iter().all(u8::is_ascii_whitespace);
            if blank {
                lines.truncate(began);
                if !lines.is_empty() {
                    take(Self::parse(&lines)?)?;
                    lines.clear();
                }
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|_| invalid("a paragraph is not UTF-8"))?;
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut last: Option<&mut String> = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                let value = last.as_mut().ok_or_else(|| invalid("a paragraph begins with a blank"))?;
                value.push('\n');
                value.push_str(line[1..].trim_end());
                continue;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| invalid(&format!("`{}` is no field", line.escape_debug())))?;
            let name = name.to_ascii_lowercase();
            if fields.contains_key(&name) {
                return Err(invalid(&format!("the field `{name}` is there twice")));
            }
            last = Some(fields.entry(name).or_insert_with(|| value.trim().to_owned()));
        }
        Ok(Self { fields })
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

/// One package that would do, as a dependency names it: `libc6 (>= 2.36)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation<'a> {
    pub(crate) name: &'a str,
    /// The operator and the version.
    pub(crate) version: Option<(&'a str, &'a str)>,
}

impl<'a> Relation<'a> {
    /// Reads `a, b (>= 1) | c`: the outer list must all hold, of each inner one alternative.
    pub(crate) fn parse(field: &'a str) -> Vec<Vec<Self>> {
        let groups = field.split(',').map(str::trim).filter(|group| !group.is_empty());
        groups.map(|group| group.split('|').map(|one| Self::one(one.trim())).collect()).collect()
    }

    /// The single package names of a list without alternatives, as `Conflicts` and `Provides` have it.
    pub(crate) fn list(field: &'a str) -> impl Iterator<Item = Self> {
        field.split(',').map(str::trim).filter(|one| !one.is_empty()).map(Self::one)
    }

    fn one(text: &'a str) -> Self {
        // Restrictions by architecture and build profile do not occur in binary packages.
        let end =
            text.find(|letter: char| letter.is_whitespace() || "([<".contains(letter)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let inner = rest
            .trim()
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
            .map(|(inner, _)| inner.trim());
        let version = inner.map(|inner| {
            let end = inner.find(|letter: char| !"<>=".contains(letter)).unwrap_or(inner.len());
            let (operator, version) = inner.split_at(end);
            (operator, version.trim())
        });
        // `:any` and the machine's own architecture say nothing here: everything is of one architecture.
        Self { name: name.split(':').next().unwrap_or(name), version }
    }

    /// Whether that version of the package would do.
    pub(crate) fn admits(&self, version: &str) -> bool {
        let Some((operator, wanted)) = self.version else { return true };
        let order = version::compare(version, wanted);
        match operator {
            "<<" => order == Ordering::Less,
            "<=" | "<" => order != Ordering::Greater,
            "=" => order == Ordering::Equal,
            ">=" | ">" => order != Ordering::Less,
            ">>" => order == Ordering::Greater,
            _ => false,
        }
    }
}

impl std::fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.version {
            Some((operator, version)) => write!(f, "{} ({operator} {version})", self.name),
            None => f.write_str(self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> io::Result<Vec<Paragraph>> {
        let mut all = Vec::new();
        Paragraph::each(text.as_bytes(), |paragraph| {
            all.push(paragraph);
            Ok::<_, io::Error>(())
        })?;
        Ok(all)
    }

    #[test]
    fn paragraphs_are_what_blank_lines_part() {
        let all = read("A: 1\nLong:\n one\n two\n\n\n# no\nB: x: y \n").unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("long"), Some("\none\ntwo"));
        assert_eq!((all[1].get("b"), all[1].get("a")), (Some("x: y"), None));
        for bad in ["A: 1\na: 2\n", " x\n", "nothing\n", "A: \u{0}\nb"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn relations_are_read_with_their_versions() {
        let groups = Relation::parse("libc6 (>= 2.36), debconf (>= 0.5) | debconf-2.0, python3:any");
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[1].len(), 2);
        assert_eq!(groups[2][0].name, "python3");
        assert!(groups[0][0].admits("2.41-12") && !groups[0][0].admits("2.31"));
        assert_eq!(groups[1][0].to_string(), "debconf (>= 0.5)");
        for (relation, yes, no) in
            [("a (<< 2)", "1", "2"), ("a (= 1-1)", "1-1", "1-2"), ("a (>> 1)", "2", "1")]
        {
            let relation = &Relation::parse(relation)[0][0];
            assert!(relation.admits(yes) && !relation.admits(no), "{relation}");
        }
    }
}
