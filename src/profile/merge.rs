//! Sources → one table. A file is laid over what it `extends`: tables merge, everything else replaces.

use std::collections::{BTreeMap, VecDeque};

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostics::Diagnostics;
use super::read::wrong_type;
use super::source::{Source, Sources, Span, Table, resolve_path};

/// The profile with everything it extends merged in, and without the `extends` keys.
pub(crate) fn merge(sources: &Sources) -> Result<Table<'_>, Diagnostics> {
    let mut faults = Diagnostics::new(sources);
    let root = sources.root();
    let mut table = Table::new();
    if let Some(source) = sources.source(root) {
        Merge { sources, faults: &mut faults, chain: Vec::new(), left: MOST_LAYERS }
            .visit(source, &mut table);
    } else {
        let reason = sources.unreadable(root).unwrap_or("there is no such file");
        faults.error_in(root, format!("the profile cannot be read: {reason}"));
    }
    if faults.is_empty() { Ok(table) } else { Err(faults) }
}

/// The paths that a file extends, as far as they can be made out; for the loader, which reads them.
pub(crate) fn parents(source: &Source) -> Vec<String> {
    let (table, _) = source.parse();
    extends(&table, &mut |_| ()).iter().map(|parent| resolve_path(&source.path, parent.get_ref())).collect()
}

/// The files by which each came in: the profile first, the file itself last. The shortest way: a file may come in by
/// several.
pub(crate) fn ways(sources: &Sources) -> BTreeMap<String, Vec<String>> {
    let root = sources.root().to_owned();
    let mut ways = BTreeMap::from([(root.clone(), vec![root.clone()])]);
    let mut next = VecDeque::from([root]);
    while let Some(file) = next.pop_front() {
        let Some(source) = sources.source(&file) else { continue };
        for parent in parents(source) {
            if !ways.contains_key(&parent) {
                let way = [ways[&file].clone(), vec![parent.clone()]].concat();
                ways.insert(parent.clone(), way);
                next.push_back(parent);
            }
        }
    }
    ways
}

/// The value of `extends`, which may be a string or a list of strings; what is neither goes to `wrong`.
fn extends<'t>(table: &'t Table<'_>, wrong: &mut dyn FnMut(&Spanned<DeValue<'_>>)) -> Vec<Spanned<&'t str>> {
    let Some(value) = table.get("extends") else { return Vec::new() };
    let items = match value.get_ref() {
        DeValue::Array(items) => items.iter().collect(),
        _ => vec![value],
    };
    let mut paths = Vec::new();
    for item in items {
        match item.get_ref().as_str() {
            Some(path) => paths.push(Spanned::new(item.span(), path)),
            None => wrong(item),
        }
    }
    paths
}

/// Files that extend the same ones again and again would double with every step.
const MOST_LAYERS: u32 = 64;

/// What is right in YAML or Python and no TOML.
fn meant(sources: &Sources, span: &Span) -> Option<String> {
    let source = sources.at(span.start)?;
    let rest = source.text.get(span.start - source.start..)?;
    let word = rest.split(|c: char| c.is_whitespace() || ",]}#".contains(c)).next()?;
    match word {
        "null" | "Null" | "NULL" | "nil" | "None" | "~" => Some("TOML has no null: leave the key out".to_owned()),
        "on" | "yes" | "True" | "TRUE" | "On" | "Yes" => Some("write `true`, or the word in quotes".to_owned()),
        "off" | "no" | "False" | "FALSE" | "Off" | "No" => Some("write `false`, or the word in quotes".to_owned()),
        word if word.starts_with("${") || word.starts_with('$') => {
            Some("nothing is filled in from an environment: write the value, or another profile that `extends` this one".to_owned())
        }
        _ => None,
    }
}

struct Merge<'s, 'd> {
    sources: &'s Sources,
    faults: &'d mut Diagnostics,
    /// The files being visited, from the profile down.
    chain: Vec<&'s str>,
    /// How many files may still be laid over one another.
    left: u32,
}

impl<'s> Merge<'s, '_> {
    /// Lays `source`, above what it extends, over `below`.
    fn visit(&mut self, source: &'s Source, below: &mut Table<'s>) {
        let (mut table, errors) = source.parse();
        for (span, message) in errors {
            let hint = meant(self.sources, &span);
            self.faults.error(span, message).maybe_help(hint);
        }
        let faults = &mut *self.faults;
        let parents: Vec<Spanned<String>> = extends(&table, &mut |item| {
            wrong_type(faults, "`extends`", item, "a path or a list of paths");
        })
        .into_iter()
        .map(|path| Spanned::new(path.span(), (*path.get_ref()).to_owned()))
        .collect();
        self.chain.push(&source.path);
        for parent in &parents {
            self.parent(source, parent, below);
        }
        self.chain.pop();
        table.remove("extends");
        overlay(below, table);
    }

    fn parent(&mut self, source: &'s Source, parent: &Spanned<String>, below: &mut Table<'s>) {
        let path = resolve_path(&source.path, parent.get_ref());
        if let Some(start) = self.chain.iter().position(|seen| *seen == path) {
            let mut circle = self.chain[start..].to_vec();
            circle.push(&path);
            let circle = circle.join(" -> ");
            self.faults
                .error(parent.span(), format!("`{}` extends itself: {circle}", self.chain[start]))
                .label("closes the circle");
            return;
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.faults
                .error(parent.span(), format!("more than {MOST_LAYERS} files are laid over one another"));
            return;
        };
        self.left = left;
        if let Some(found) = self.sources.source(&path) {
            self.visit(found, below);
        } else {
            let reason = self.sources.unreadable(&path).unwrap_or("there is no such file");
            self.faults
                .error(parent.span(), format!("`{path}` cannot be read: {reason}"))
                .label("extended here")
                .help("paths in `extends` are relative to the file that they stand in");
        }
    }
}

/// Lays `above` over `below`.
fn overlay<'s>(below: &mut Table<'s>, above: Table<'s>) {
    for (key, value) in above {
        // Taken out first: `insert` would keep the old key, and with it the old place.
        let old = below.remove_entry(&key);
        let span = value.span();
        let merged = match (old, value.into_inner()) {
            (Some((_, old)), DeValue::Table(new)) if old.get_ref().is_table() => {
                let DeValue::Table(mut old) = old.into_inner() else { continue };
                overlay(&mut old, new);
                DeValue::Table(old)
            }
            (_, new) => new,
        };
        below.insert(key, Spanned::new(span, merged));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Sources {
        let mut sources = Sources::new(files[0].0);
        for (path, text) in files {
            sources.add(path, text);
        }
        sources
    }

    #[test]
    fn tables_merge_arrays_replace_and_the_child_wins() {
        let sources = sources(&[
            ("p/a.toml", "extends = ['b.toml', 'c.toml']\n[t]\nx = 1\nlist = [9]\n"),
            ("p/b.toml", "[t]\nx = 2\ny = 2\nz = 2\nlist = [1, 2]\n"),
            ("p/c.toml", "[t]\ny = 3\n"),
        ]);
        let table = merge(&sources).unwrap();
        let t = table.get("t").unwrap().get_ref();
        let number = |key: &str| t.get(key).unwrap().get_ref().as_integer().unwrap().as_str().to_owned();
        assert_eq!([number("x"), number("y"), number("z")], ["1", "3", "2"]);
        assert_eq!(t.get("list").unwrap().get_ref().as_array().unwrap().len(), 1);
        let place = t.get("y").unwrap().span();
        assert_eq!(sources.at(place.start).unwrap().path, "p/c.toml");
        assert!(table.get("extends").is_none());
    }

    #[test]
    fn two_parents_may_share_a_grandparent() {
        let sources = sources(&[
            ("a.toml", "extends = ['b.toml', 'c.toml']"),
            ("b.toml", "extends = 'd.toml'"),
            ("c.toml", "extends = 'd.toml'"),
            ("d.toml", "x = 1"),
        ]);
        assert!(merge(&sources).unwrap().contains_key("x"));
    }

    #[test]
    fn a_circle_shows_itself() {
        let sources = sources(&[("a.toml", "extends = 'b.toml'"), ("b.toml", "extends = './a.toml'")]);
        let text = merge(&sources).unwrap_err().render(false);
        assert!(text.contains("a.toml -> b.toml -> a.toml"), "{text}");
    }
}
