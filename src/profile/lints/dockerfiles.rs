//! Images of Dockerfiles: what their next build may take from elsewhere without anybody having said so.

use std::collections::{BTreeMap, BTreeSet};

use super::super::images::ignored;
use super::view::View;
use super::{Report, Table, warning};

pub(super) const LINTS: Table = &[
    warning(
        "dockerfile-base-by-tag",
        "the lock holds the image that was built, but whoever locks it again may build on other bytes, and nobody sees it",
        by_tag,
    ),
    warning(
        "dockerignore-not-read",
        "what Docker's own command would leave out of the context goes into it here, secrets and build results among it",
        not_read,
    ),
];

/// So many images of one Dockerfile are named; more help nobody.
const MOST: usize = 20;

fn by_tag(view: &View<'_>, report: &mut Report) {
    for (name, image) in &view.profile.images {
        let Some(dockerfile) = &image.dockerfile else { continue };
        let path = dockerfile.path.get_ref();
        let text = view.profile.sources().contents(path).and_then(|contents| contents.get(""));
        let text = String::from_utf8_lossy(text.map_or(&[][..], Vec::as_slice));
        for (line, image) in moving(&text, &dockerfile.recipe.args).into_iter().take(MOST) {
            report
                .at(
                    dockerfile.path.span(),
                    format!("images.{name}.dockerfile"),
                    format!("line {line} of `{path}` names `{image}` without a digest"),
                )
                .help(format!(
                    "write `{image}@sha256:…`; `docker buildx imagetools inspect` says the digest"
                ));
        }
    }
}

fn not_read(view: &View<'_>, report: &mut Report) {
    for (name, image) in &view.profile.images {
        let Some(dockerfile) = &image.dockerfile else { continue };
        let context = &dockerfile.recipe.context;
        let file = ignored(&context.from.to_string_lossy());
        let said = !context.include.is_empty() || !context.exclude.is_empty();
        if said || view.profile.sources().contents(&file).is_none() {
            continue;
        }
        report
            .at(dockerfile.path.span(), format!("images.{name}.context"), format!("`{file}` is not read"))
            .help("say what is left out in the profile: `context = { exclude = [\"**/node_modules\"] }`");
    }
}

/// The images of others that a Dockerfile names by something else than their digest, with their lines
/// (docs.docker.com, "Dockerfile reference": `FROM`, `COPY --from`, parser directives).
fn moving(text: &str, args: &BTreeMap<String, String>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut stages: BTreeSet<String> = BTreeSet::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut note = |line: usize, image: &str, stages: &BTreeSet<String>| {
        let stage = stages.contains(&image.to_lowercase()) || image.bytes().all(|byte| byte.is_ascii_digit());
        if !(stage || image == "scratch" || image.contains("@sha256:")) {
            found.push((line, image.to_owned()));
        }
    };
    for (line, words) in instructions(text, &mut note) {
        let mut words = words.iter().map(String::as_str);
        match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "ARG" if stages.is_empty() => {
                for word in words {
                    let (name, default) = word.split_once('=').unwrap_or((word, ""));
                    let value = args.get(name).map_or(default.trim_matches(['"', '\'']), String::as_str);
                    values.insert(name.to_owned(), value.to_owned());
                }
            }
            "FROM" => {
                let mut words = words.filter(|word| !word.starts_with("--"));
                if let Some(image) = words.next() {
                    note(line, &filled(image, &values), &stages);
                }
                // A stage without a name is one, too: what stands before the first is over.
                let name = words.nth(1).unwrap_or_default();
                stages.insert(name.to_lowercase());
            }
            "COPY" => {
                let from = words.take_while(|word| word.starts_with("--"));
                for image in from.filter_map(|word| word.strip_prefix("--from=")) {
                    note(line, image, &stages);
                }
            }
            _ => {}
        }
    }
    found
}

/// The instructions with the lines that they begin in, each as its words, without comments and here-documents.
fn instructions(
    text: &str,
    note: &mut impl FnMut(usize, &str, &BTreeSet<String>),
) -> Vec<(usize, Vec<String>)> {
    let mut all: Vec<(usize, Vec<String>)> = Vec::new();
    let (mut escape, mut directives, mut goes_on) = ('\\', true, false);
    let mut here: Option<String> = None;
    for (nth, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(end) = &here {
            if line == end {
                here = None;
            }
            continue;
        }
        if let Some(comment) = line.strip_prefix('#') {
            match comment.split_once('=').map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim()))
            {
                Some((key, value)) if directives && key == "syntax" => note(nth + 1, value, &BTreeSet::new()),
                Some((key, "`")) if directives && key == "escape" => escape = '`',
                Some(_) => {}
                None => directives = false,
            }
            continue;
        }
        directives = false;
        if line.is_empty() {
            continue;
        }
        let rest = line.strip_suffix(escape).unwrap_or(line);
        let words = rest.split_whitespace().map(str::to_owned);
        match all.last_mut().filter(|_| goes_on) {
            Some((_, before)) => before.extend(words),
            None => all.push((nth + 1, words.collect())),
        }
        goes_on = line.ends_with(escape);
        if !goes_on {
            here = all.last().and_then(|(_, words)| words.iter().find_map(|word| here_document(word)));
        }
    }
    all
}

/// What ends the here-document that a word begins.
fn here_document(word: &str) -> Option<String> {
    let end = word.strip_prefix("<<")?;
    let end = end.strip_prefix('-').unwrap_or(end).trim_matches(['"', '\'']);
    let good = !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    good.then(|| end.to_owned())
}

/// A name with the values of `$NAME`, `${NAME}` and `${NAME:-default}` in it, as far as they are known.
fn filled(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (whole, name, default, left) =
            if let Some((inner, left)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                let (name, default) = inner.split_once(":-").unwrap_or((inner, ""));
                (format!("${{{inner}}}"), name, default, left)
            } else {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                (format!("${}", &after[..end]), &after[..end], "", &after[end..])
            };
        match values.get(name).map(String::as_str).filter(|value| !value.is_empty()) {
            Some(value) => out.push_str(value),
            None if default.is_empty() => out.push_str(&whole),
            None => out.push_str(default),
        }
        rest = left;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moving(text: &str) -> Vec<(usize, String)> {
        super::moving(text, &BTreeMap::from([("TAG".to_owned(), "1.4".to_owned())]))
    }

    #[test]
    fn what_can_move_is_named_and_nothing_else() {
        let text = "\
# syntax=docker/dockerfile:1
# a comment
ARG TAG=1.0
ARG PINNED=\"a@sha256:00\"
FROM --platform=linux/amd64 golang:${TAG} AS Build
COPY . /src
RUN <<END
FROM table
END
RUN one && \\
  FROM=x
from $PINNED
COPY --from=build --chown=1:1 /a /b
COPY --from=nginx:1 /a /b
COPY --from=0 /a /b
FROM build
FROM ${NONE:-debian:13}
FROM scratch
FROM debian@sha256:00
";
        let expected = [(1, "docker/dockerfile:1"), (5, "golang:1.4"), (14, "nginx:1"), (17, "debian:13")];
        assert_eq!(moving(text), expected.map(|(line, image)| (line, image.to_owned())));
    }

    #[test]
    fn an_escape_of_windows_and_a_value_that_nobody_gave_are_read() {
        assert_eq!(
            moving("# escape=`\nFROM `\n  a:1\nFROM b:$X"),
            [(2, "a:1".to_owned()), (4, "b:$X".to_owned())]
        );
        assert_eq!(moving("# x\n# syntax=y\nFROM"), []);
        assert_eq!(moving("FROM $"), [(1, "$".to_owned())]);
    }
}
