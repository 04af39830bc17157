//! All texts of one profile in one address space, so that a value still knows its file after merging.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::{Digest, ImageName};

/// A range of bytes in the address space of a [`Sources`].
pub type Span = Range<usize>;

/// A table whose spans are shifted into the address space.
pub(crate) type Table<'s> = DeTable<'s>;
/// A value with its place.
pub(crate) type Value<'s> = Spanned<DeValue<'s>>;

/// One text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: Arc<str>,
    /// Where the text begins in the address space.
    pub(crate) start: usize,
}

/// A profile, everything that it extends, and the lock beside it, as texts. [`super::load`] makes one from files,
/// [`Sources::new`] and [`Sources::add`] from memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    root: String,
    files: Vec<Source>,
    unreadable: BTreeMap<String, String>,
    project: Box<Project>,
}

/// What a profile takes from its project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Project {
    /// Files and directories of such: the bytes by path below; the empty path is the file itself.
    contents: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The digests of the profile's own images, once they are built.
    built: BTreeMap<ImageName, Digest>,
}

impl Sources {
    /// An empty set whose profile is `root`, a path as the operator gave it.
    pub fn new(root: &str) -> Self {
        Self { root: clean(root), files: Vec::new(), unreadable: BTreeMap::new(), project: Box::default() }
    }

    /// Notes what came of building one of the profile's own images.
    pub fn set_built(&mut self, image: ImageName, digest: Digest) {
        self.project.built.insert(image, digest);
    }

    /// The digest of one of the profile's own images, if it was built.
    pub(crate) fn built(&self, image: &ImageName) -> Option<Digest> {
        self.project.built.get(image).copied()
    }

    /// Adds a text under its path. A path that is there already keeps its text.
    pub fn add(&mut self, path: &str, text: &str) {
        let path = clean(path);
        if self.files.iter().any(|source| source.path == path) {
            return;
        }
        // One byte of room after each text: the end of one is never the start of the next.
        let start = self.files.last().map_or(0, |last| last.start + last.text.len() + 1);
        self.files.push(Source { path, text: text.into(), start });
    }

    /// Notes that a file could not be read, and why.
    pub fn add_unreadable(&mut self, path: &str, reason: &str) {
        self.unreadable.insert(clean(path), reason.to_owned());
    }

    /// Adds the bytes of a file of the project, under the empty path, or of all files of a directory.
    pub fn add_contents(&mut self, path: &str, contents: BTreeMap<String, Vec<u8>>) {
        self.project.contents.insert(clean(path), contents);
    }

    /// The bytes of a file of the project, or of the files of a directory.
    pub(crate) fn contents(&self, path: &str) -> Option<&BTreeMap<String, Vec<u8>>> {
        self.project.contents.get(&clean(path))
    }

    /// The profile's own path.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The path of the lock: `bundle.lock` beside the profile.
    pub fn lock_path(&self) -> String {
        resolve_path(&self.root, "bundle.lock")
    }

    /// Whether the path has a text or is known to have none.
    pub fn knows(&self, path: &str) -> bool {
        let path = clean(path);
        self.unreadable.contains_key(&path) || self.files.iter().any(|source| source.path == path)
    }

    /// The text at a path.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.source(path).map(|source| &*source.text)
    }

    /// Path and text of every file that was read: the profile, what it extends, the lock.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|source| (source.path.as_str(), &*source.text))
    }

    pub(crate) fn source(&self, path: &str) -> Option<&Source> {
        let path = clean(path);
        self.files.iter().find(|source| source.path == path)
    }

    /// Why a path could not be read.
    pub(crate) fn unreadable(&self, path: &str) -> Option<&str> {
        self.unreadable.get(&clean(path)).map(String::as_str)
    }

    /// The file that a place in the address space belongs to.
    pub(crate) fn at(&self, offset: usize) -> Option<&Source> {
        self.files.iter().rev().find(|source| source.start <= offset)
    }

    /// The text of a span, if it lies within one file.
    pub(crate) fn slice(&self, span: &Span) -> Option<&str> {
        let source = self.at(span.start)?;
        source.text.get(span.start - source.start..span.end.checked_sub(source.start)?)
    }

    /// The place of `range` of the string that stands at `span`. Escapes make the two differ; then it is the whole.
    pub(crate) fn inside(&self, span: &Span, content: &str, range: Range<usize>) -> Span {
        match self.slice(span).and_then(|raw| raw.find(content)) {
            Some(lead) if !content.is_empty() => {
                span.start + lead + range.start..span.start + lead + range.end
            }
            _ => span.clone(),
        }
    }
}

impl Source {
    /// Parses the text, as far as it is TOML; the errors carry spans of the address space.
    pub(crate) fn parse(&self) -> (Table<'_>, Vec<(Span, String)>) {
        let (document, errors) = DeTable::parse_recoverable(&self.text);
        let errors = errors
            .into_iter()
            .map(|error| {
                let span = error.span().unwrap_or_else(|| self.deepest());
                (span.start + self.start..span.end + self.start, error.message().to_owned())
            })
            .collect();
        (self.shift_table(document.into_inner()), errors)
    }

    /// The line with the most dots: for a key that is nested too deeply the parser names no place.
    fn deepest(&self) -> Span {
        let dots = |line: &str| line.bytes().filter(|b| *b == b'.').count();
        let mut at = 0;
        let mut deepest = (0, 0..0);
        for line in self.text.split_inclusive('\n') {
            if dots(line) > deepest.0 {
                deepest = (dots(line), at..at + line.trim_end().len());
            }
            at += line.len();
        }
        deepest.1
    }

    fn shift_table<'s>(&self, table: Table<'s>) -> Table<'s> {
        table.into_iter().map(|(key, value)| (self.shift(key), self.shift_value(value))).collect()
    }

    fn shift_value<'s>(&self, value: Value<'s>) -> Value<'s> {
        let span = value.span();
        let inner = match value.into_inner() {
            DeValue::Table(table) => DeValue::Table(self.shift_table(table)),
            DeValue::Array(array) => {
                DeValue::Array(array.into_iter().map(|item| self.shift_value(item)).collect())
            }
            other => other,
        };
        self.shift(Spanned::new(span, inner))
    }

    fn shift<T>(&self, value: Spanned<T>) -> Spanned<T> {
        let span = value.span();
        Spanned::new(span.start + self.start..span.end + self.start, value.into_inner())
    }
}

/// `path` as seen from the directory of `file`, without `.` and with `..` taken back where that is certain.
pub(crate) fn resolve_path(file: &str, path: &str) -> String {
    match file.rsplit_once('/') {
        Some((directory, _)) if !path.starts_with('/') => clean(&format!("{directory}/{path}")),
        _ => clean(path),
    }
}

/// The shortest spelling that names the same file without asking the file system.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_leads_back_to_its_file() {
        let mut sources = Sources::new("a.toml");
        sources.add("a.toml", "x = 1\n");
        sources.add("b.toml", "yy = 2\n");
        let (table, errors) = sources.source("b.toml").unwrap().parse();
        assert_eq!(errors, []);
        let span = table.keys().next().unwrap().span();
        assert_eq!(sources.at(span.start).unwrap().path, "b.toml");
        assert_eq!(sources.slice(&span), Some("yy"));
    }

    #[test]
    fn two_spellings_of_a_path_are_one_file() {
        assert_eq!(resolve_path("profiles/a.toml", "./x/../base.toml"), "profiles/base.toml");
        assert_eq!(resolve_path("a.toml", "../base.toml"), "../base.toml");
        assert_eq!(resolve_path("/p/a.toml", "/q/b.toml"), "/q/b.toml");
    }
}
