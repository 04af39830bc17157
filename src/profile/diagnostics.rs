//! Everything that is wrong with a profile, said at once: file, line, caret, and what to do.

use std::collections::BTreeMap;
use std::fmt;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{
    AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};
use serde::Serialize;

use super::merge::ways;
use super::source::{Source, Sources, Span};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing can be built.
    Error,
    /// It can be built, but probably is not what somebody wants.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    /// The name of the lint that found it, if it is one's.
    lint: Option<&'static str>,
    message: String,
    /// The first is the place itself, the others explain.
    labels: Vec<(Span, String)>,
    /// Where there is no place inside a file: the file.
    file: Option<String>,
    help: Vec<String>,
    /// The line is named and not shown: there is a secret in it.
    hidden: bool,
}

/// Where a finding points to, as editors count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, as it was given.
    #[serde(rename = "file")]
    pub path: String,
    /// The line, from 1; `None` if the finding is about the file as a whole.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
}

/// A finding as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The lint that found it, if one did: what a profile may `allow`.
    pub lint: Option<&'static str>,
    /// What is wrong, in one line.
    pub message: String,
    /// Where it begins.
    #[serde(flatten)]
    pub place: Place,
    /// The line in which it ends, from 1.
    pub end_line: Option<usize>,
    /// The column behind its end, from 1.
    pub end_column: Option<usize>,
    /// What is said at the place itself.
    pub label: Option<String>,
    /// The files by which the one came in that it is in: the profile first, that one last; of the lock only itself.
    pub way: Vec<String>,
    /// Other places that explain it.
    pub also: Vec<Also>,
    /// What to do about it.
    pub help: Vec<String>,
}

/// A place that explains a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Also {
    /// Where it begins.
    #[serde(flatten)]
    pub place: Place,
    /// What it has to do with the finding.
    pub label: String,
}

/// In characters.
const LONGEST_TEXT: usize = 1000;

/// In bytes. What is longer is no line that somebody wrote.
const LONGEST_LINE: usize = 2000;

/// What is said about places of one file.
type Labels<'d> = Vec<(AnnotationKind, Span, &'d str)>;

/// A text without end helps nobody, and takes as long to write.
const MOST_SHOWN: usize = 100;

/// All findings about one set of sources. Rendering is a pure function of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    sources: Sources,
    items: Vec<Diagnostic>,
}

impl Diagnostic {
    /// What a lint found, at a place.
    pub(crate) fn of_lint(lint: &'static str, severity: Severity, span: Span, message: String) -> Self {
        let labels = vec![(span, String::new())];
        Self { severity, lint: Some(lint), message, labels, file: None, help: Vec::new(), hidden: false }
    }

    /// What a lint found, about a file as a whole.
    pub(crate) fn of_lint_in(lint: &'static str, severity: Severity, file: &str, message: String) -> Self {
        let file = Some(file.to_owned());
        Self {
            severity,
            lint: Some(lint),
            message,
            labels: Vec::new(),
            file,
            help: Vec::new(),
            hidden: false,
        }
    }

    /// Says something at the place itself.
    pub(crate) fn label(&mut self, text: impl Into<String>) -> &mut Self {
        if let Some((_, label)) = self.labels.first_mut() {
            *label = text.into();
        }
        self
    }

    /// Points at another place.
    pub(crate) fn also(&mut self, span: Span, text: impl Into<String>) -> &mut Self {
        self.labels.push((span, text.into()));
        self
    }

    /// Says what to do.
    pub(crate) fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help.push(text.into());
        self
    }

    /// Names the line and does not show it: what is said here ends in logs.
    pub(crate) fn hide(&mut self) -> &mut Self {
        self.hidden = true;
        self
    }

    /// Says what to do, if there is something to say.
    pub(crate) fn maybe_help(&mut self, text: Option<String>) -> &mut Self {
        self.help.extend(text);
        self
    }

    /// The lint that found it, if one did: what a profile may `allow`.
    pub fn lint(&self) -> Option<&'static str> {
        self.lint
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn hints(&self) -> &[String] {
        &self.help
    }
}

impl Diagnostics {
    pub(crate) fn new(sources: &Sources) -> Self {
        Self { sources: sources.clone(), items: Vec::new() }
    }

    fn push(&mut self, severity: Severity, message: String) -> &mut Diagnostic {
        let new = Diagnostic {
            severity,
            lint: None,
            message,
            labels: Vec::new(),
            file: None,
            help: Vec::new(),
            hidden: false,
        };
        let at = self.items.len();
        self.items.push(new);
        &mut self.items[at]
    }

    /// Adds an error at a place.
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        let new = self.push(Severity::Error, message.into());
        new.labels.push((span, String::new()));
        new
    }

    /// Adds an error about a file as a whole.
    pub(crate) fn error_in(&mut self, file: &str, message: impl Into<String>) -> &mut Diagnostic {
        let new = self.push(Severity::Error, message.into());
        new.file = Some(file.to_owned());
        new
    }

    /// Takes over one finding.
    pub(crate) fn adopt(&mut self, item: Diagnostic) {
        self.items.push(item);
    }

    /// Takes over what somebody else found in the same sources.
    pub(crate) fn extend(&mut self, other: Self) {
        self.items.extend(other.items);
    }

    /// Splits off the warnings: `Ok` with them if there is nothing worse.
    pub(crate) fn into_warnings(self) -> Result<Self, Self> {
        if self.has_errors() { Err(self) } else { Ok(self) }
    }

    /// The texts they are about.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|item| item.severity == Severity::Error)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The findings, by file, line and column; equal ones once.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        let place = |item: &Diagnostic| item.labels.first().map(|(span, _)| (span.start, span.end));
        let mut sorted: Vec<&Diagnostic> = self.items.iter().collect();
        // Stable: what stands at one place stays in the order in which it was found.
        sorted.sort_by_key(|item| place(item));
        let mut kept: Vec<&Diagnostic> = Vec::with_capacity(sorted.len());
        // Equal ones are at one place, so that only the end of what is kept has to be looked through.
        for item in sorted {
            let here = kept.iter().rev().take_while(|other| place(other) == place(item));
            if !here.take(MOST_SHOWN).any(|other| *other == item) {
                kept.push(item);
            }
        }
        kept.into_iter()
    }

    /// Where a finding of these points to.
    pub fn place(&self, item: &Diagnostic) -> Option<Place> {
        if let Some(path) = &item.file {
            return Some(Place::of_file(path));
        }
        place_of(&self.sources, &item.labels.first()?.0)
    }

    /// The text for people, an empty line between two findings. Without `colour` it is plain ASCII around the
    /// excerpts. Nobody reads more than a hundred; errors come first where there are more.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let ways = self.ways();
        let mut items: Vec<&Diagnostic> = self.iter().collect();
        let more = items.len().saturating_sub(MOST_SHOWN);
        if more > 0 {
            items.sort_by_key(|item| item.severity);
            items.truncate(MOST_SHOWN);
        }
        let mut texts: Vec<String> =
            items.into_iter().map(|item| self.render_one(&renderer, item, &ways)).collect();
        if more > 0 {
            texts.push(format!("and {more} more like these"));
        }
        let mut all = texts.join("\n\n");
        if !all.is_empty() {
            all.push('\n');
        }
        all
    }

    fn render_one(
        &self,
        renderer: &Renderer,
        item: &Diagnostic,
        ways: &BTreeMap<String, Vec<String>>,
    ) -> String {
        let level = match item.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let message = printable(&item.message);
        let mut title = level.primary_title(message);
        if let Some(lint) = item.lint {
            title = title.id(lint);
        }
        let snippets = if item.hidden { Vec::new() } else { self.snippets(item) };
        let mut elements: Vec<Element<'_>> = snippets.into_iter().map(Element::from).collect();
        if let (Some(place), true) = (self.place(item), elements.is_empty()) {
            let mut origin = Origin::path(place.path);
            if let Some(line) = place.line {
                origin = origin.line(line).char_column(place.column.unwrap_or(1));
            }
            elements.push(origin.into());
        }
        if let Some(from) = self.layer(item, ways) {
            elements.push(Level::NOTE.message(printable(&from)).into());
        }
        elements.extend(item.help.iter().map(|text| Level::HELP.message(printable(text)).into()));
        let group = if elements.is_empty() { Group::with_title(title) } else { title.elements(elements) };
        let text = renderer.render(&[group]);
        // The renderer makes C0 and bidirectional controls visible, but leaves C1, which terminals obey too.
        let text = text.replace(|c| ('\u{80}'..='\u{9f}').contains(&c), "\u{fffd}");
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// The file that a finding is in, if it came in by `extends`, and how it did.
    fn layer(&self, item: &Diagnostic, ways: &BTreeMap<String, Vec<String>>) -> Option<String> {
        let (file, above) = ways.get(self.file(item)?)?.split_last()?;
        let (profile, between) = above.split_first()?;
        let mut text = format!("this is in `{file}`, which `{profile}` extends");
        for (nth, file) in between.iter().enumerate() {
            let lead = if nth == 0 { "by way of" } else { "and" };
            text = format!("{text} {lead} `{file}`");
        }
        Some(text)
    }

    /// The file that a finding is in.
    fn file<'d>(&'d self, item: &'d Diagnostic) -> Option<&'d str> {
        match (&item.file, item.labels.first()) {
            (Some(file), _) => Some(file),
            (None, Some((span, _))) => self.sources.at(span.start).map(|source| source.path.as_str()),
            (None, None) => None,
        }
    }

    /// The files by which each came in, if a finding is in another one than the profile itself: it takes reading them.
    fn ways(&self) -> BTreeMap<String, Vec<String>> {
        let elsewhere = self.items.iter().any(|item| self.file(item) != Some(self.sources.root()));
        if elsewhere { ways(&self.sources) } else { BTreeMap::new() }
    }

    /// The findings as data, for programs.
    pub fn findings(&self) -> Vec<Finding> {
        let ways = self.ways();
        self.iter()
            .map(|item| {
                let place = self.place(item).unwrap_or_else(|| Place::of_file(self.sources.root()));
                let end =
                    item.labels.first().and_then(|(span, _)| place_of(&self.sources, &(span.end..span.end)));
                let (main, others) = item
                    .labels
                    .split_first()
                    .map_or((None, [].as_slice()), |(main, others)| (Some(main), others));
                let also = others.iter().filter_map(|(span, text)| {
                    Some(Also { place: place_of(&self.sources, span)?, label: text.clone() })
                });
                Finding {
                    severity: item.severity,
                    lint: item.lint,
                    message: item.message.clone(),
                    end_line: end.as_ref().and_then(|end| end.line),
                    end_column: end.as_ref().and_then(|end| end.column),
                    place,
                    label: main.map(|(_, text)| text.clone()).filter(|text| !text.is_empty()),
                    way: self.file(item).map_or_else(Vec::new, |file| {
                        ways.get(file).cloned().unwrap_or_else(|| vec![file.to_owned()])
                    }),
                    also: also.collect(),
                    help: item.help.clone(),
                }
            })
            .collect()
    }

    /// One excerpt for each file, the main label's first. None at all if a line is without end: the place says enough.
    fn snippets<'d>(&'d self, item: &'d Diagnostic) -> Vec<Snippet<'d, annotate_snippets::Annotation<'d>>> {
        let mut files: Vec<(&'d Source, Labels<'d>)> = Vec::new();
        for (nth, (span, text)) in item.labels.iter().enumerate() {
            let Some(source) = self.sources.at(span.start) else { continue };
            let kind = if nth == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let local =
                boundaries(&source.text, span.start - source.start, span.end.saturating_sub(source.start));
            match files.iter_mut().find(|(known, _)| known.start == source.start) {
                Some((_, labels)) => labels.push((kind, local, text)),
                None => files.push((source, vec![(kind, local, text)])),
            }
        }
        let excerpts: Option<Vec<_>> =
            files.into_iter().map(|(source, labels)| excerpt(source, labels)).collect();
        excerpts.unwrap_or_default()
    }
}

/// The lines of a file from the first label to the last, or nothing if one of them is too long to be read. The renderer
/// would look at every line that it is given.
fn excerpt<'d>(
    source: &'d Source,
    labels: Labels<'d>,
) -> Option<Snippet<'d, annotate_snippets::Annotation<'d>>> {
    let text: &str = &source.text;
    let line_start = |at: usize| text[..at].rfind('\n').map_or(0, |line| line + 1);
    let line_end = |at: usize| text[at..].find('\n').map_or(text.len(), |line| at + line);
    if labels.iter().any(|(_, span, _)| line_end(span.end) - line_start(span.start) > LONGEST_LINE) {
        return None;
    }
    let first = line_start(labels.iter().map(|(_, span, _)| span.start).min()?);
    let last = line_end(labels.iter().map(|(_, span, _)| span.end).max()?);
    let before = text[..first].bytes().filter(|b| *b == b'\n').count();
    let mut snippet = Snippet::source(&text[first..last]).path(source.path.as_str()).line_start(before + 1);
    for (kind, span, label) in labels {
        let label = (!label.is_empty()).then(|| printable(label));
        snippet = snippet.annotation(kind.span(span.start - first..span.end - first).label(label));
    }
    Some(snippet)
}

/// The text without what a terminal would obey, and without what nobody would read: names come from profiles.
fn printable(text: &str) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => normalize_untrusted_str(&text[..end]) + " …",
        None => normalize_untrusted_str(text),
    }
}

/// Where a span begins.
pub(crate) fn place_of(sources: &Sources, span: &Span) -> Option<Place> {
    let source = sources.at(span.start)?;
    let at = boundaries(&source.text, span.start - source.start, usize::MAX).start;
    let before = &source.text[..at];
    let line_start = before.rfind('\n').map_or(0, |line| line + 1);
    Some(Place {
        path: source.path.clone(),
        line: Some(before.matches('\n').count() + 1),
        column: Some(before[line_start..].chars().count() + 1),
    })
}

impl Place {
    /// A file as a whole.
    pub(crate) fn of_file(path: &str) -> Self {
        Self { path: path.to_owned(), line: None, column: None }
    }
}

/// A span that is certain to be one of this text: in its bounds, between characters, on one line.
fn boundaries(text: &str, start: usize, end: usize) -> Span {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(start);
    let end = floor(end).max(start);
    // A caret under the first line says enough, and a table of forty lines need not be printed.
    let line_end = text[start..end].find('\n').map_or(end, |line| start + line);
    start..line_end
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// The candidate that somebody probably meant, as a sentence.
pub(crate) fn did_you_mean<'c>(wrong: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(wrong, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// The candidate that somebody probably meant: at most every third character is wrong.
pub(crate) fn nearest<'c>(wrong: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let length = wrong.chars().count();
    let limit = (length / 3).max(1);
    candidates
        .into_iter()
        // The distance is at least the difference of the lengths; a key without end need not be compared.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| (strsim::damerau_levenshtein(wrong, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_from_one_and_in_characters() {
        let mut sources = Sources::new("a.toml");
        sources.add("a.toml", "x = 1\n\"é\" = 2\n");
        let mut faults = Diagnostics::new(&sources);
        faults.error(13..14, "here");
        let item = faults.iter().next().unwrap();
        let place = Place { path: "a.toml".to_owned(), line: Some(2), column: Some(7) };
        assert_eq!(faults.place(item), Some(place));
    }

    #[test]
    fn a_suggestion_is_near_or_there_is_none() {
        assert_eq!(nearest("imgae", ["image", "init"]), Some("image"));
        assert_eq!(nearest("zzz", ["image", "init"]), None);
    }

    #[test]
    fn what_a_profile_says_cannot_drive_a_terminal() {
        let mut sources = Sources::new("a.toml");
        sources.add("a.toml", "x = '\u{9b}'\n");
        let mut faults = Diagnostics::new(&sources);
        faults.error(0..1, "said \u{1b}[2J").label("\u{1b}[31m").help("\u{7}");
        let text = faults.render(false);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
}
