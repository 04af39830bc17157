//! The part of the lock that says which Debian packages an image has: `[packages.IMAGE.ARCHITECTURE]`, a line for each
//! index and each package, so that an update reads as the lines that it changes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use toml::Spanned;
use toml_writer::{ToTomlKey as _, ToTomlValue as _};

use super::super::diagnostics::Diagnostics;
use super::super::read::{Fields, as_array, as_table};
use super::super::source::Value;
use crate::model::Digest;
use crate::spec::{IndexPin, PackageLock, PackagePin};

/// The text of one image's packages.
pub(super) fn write(text: &mut String, image: &str, lock: &PackageLock) {
    let value = |text: &str| text.to_toml_value();
    let list = |items: &[String]| {
        format!("[{}]", items.iter().map(|item| value(item)).collect::<Vec<_>>().join(", "))
    };
    let (image, architecture) = (image.to_toml_key(), lock.architecture.as_str().to_toml_key());
    let _ = write!(
        text,
        "\n[packages.{image}.{architecture}]\nrequested = {}\nindexes = [\n",
        list(&lock.requested)
    );
    for index in &lock.indexes {
        let IndexPin { url, suite, in_release, date, keys, path, size, digest } = index;
        let (url, suite, keys, path) = (value(url), value(suite), list(keys), value(path));
        let date = date.as_ref().map_or_else(String::new, |date| format!(" date = {},", value(date)));
        let _ = writeln!(
            text,
            "    {{ url = {url}, suite = {suite}, in_release = \"{in_release}\",{date} keys = {keys}, path = {path}, size = {size}, digest = \"{digest}\" }},",
        );
    }
    text.push_str("]\npackages = [\n");
    for package in &lock.packages {
        let PackagePin { name, version, architecture, suite, path, size, digest } = package;
        let [name, version, architecture, suite, path] =
            [name, version, architecture, suite, path].map(|text| value(text));
        let _ = writeln!(
            text,
            "    {{ name = {name}, version = {version}, architecture = {architecture}, suite = {suite}, path = {path}, size = {size}, digest = \"{digest}\" }},",
        );
    }
    text.push_str("]\n");
}

/// Reads one image's packages; what is wrong is reported, and nothing is taken then.
pub(super) fn read(
    faults: &mut Diagnostics,
    image: &str,
    architecture: &str,
    value: &Value<'_>,
) -> Option<PackageLock> {
    let what = format!("`packages.{image}.{architecture}`");
    let table = as_table(faults, &what, value)?;
    let mut fields = Fields::new(what, table, faults);
    for key in ["requested", "indexes", "packages"] {
        fields.require(key, Some(value.span()), "what `bundle lock` writes");
    }
    let requested = fields.list::<String>("requested").into_iter().map(Spanned::into_inner).collect();
    let (indexes, packages) = (fields.get("indexes"), fields.get("packages"));
    let indexes = rows(fields.faults, "`indexes`", indexes?, index)?;
    let found = rows(fields.faults, "`packages`", packages?, package)?;
    fields.finish();
    let suites: BTreeSet<_> = indexes.iter().map(|index| index.suite.as_str()).collect();
    if let Some(pair) = found.windows(2).find(|pair| pair[0].name >= pair[1].name) {
        let message = format!("`{}` and `{}` are not in order, or the same", pair[0].name, pair[1].name);
        faults.error(value.span(), message).help("run `bundle lock` instead of writing here");
        return None;
    }
    if let Some(lost) = found.iter().find(|package| !suites.contains(package.suite.as_str())) {
        faults.error(
            value.span(),
            format!("`{}` is of the suite `{}`, which is no index", lost.name, lost.suite),
        );
        return None;
    }
    Some(PackageLock { architecture: architecture.to_owned(), requested, indexes, packages: found })
}

/// Every element of a list of tables, or nothing.
fn rows<T>(
    faults: &mut Diagnostics,
    what: &str,
    value: &Value<'_>,
    one: impl Fn(&mut Fields<'_, '_>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut all = Some(Vec::new());
    for value in as_array(faults, what, value)? {
        let Some(table) = as_table(faults, what, value) else {
            all = None;
            continue;
        };
        let mut fields = Fields::new(what, table, faults);
        let row = one(&mut fields);
        fields.finish();
        if row.is_none() {
            faults.error(value.span(), format!("this entry of {what} is not what `bundle lock` writes"));
        }
        all = all.zip(row).map(|(mut all, row)| {
            all.push(row);
            all
        });
    }
    all
}

fn text(fields: &mut Fields<'_, '_>, key: &'static str, also: &str) -> Option<String> {
    let text = fields.string(key)?.into_inner();
    let clean = |byte: u8| byte.is_ascii_alphanumeric() || also.as_bytes().contains(&byte);
    let inside = !text.starts_with('/') && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (text.bytes().all(clean) && (key == "url" || inside)).then_some(text)
}

fn digest(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Digest> {
    Some(fields.parsed::<Digest>(key)?.into_inner())
}

fn size(fields: &mut Fields<'_, '_>) -> Option<u64> {
    u64::try_from(*fields.integer("size")?.get_ref()).ok()
}

fn index(fields: &mut Fields<'_, '_>) -> Option<IndexPin> {
    let (url, suite) = (text(fields, "url", "+-.~_:/%@[]"), text(fields, "suite", "+-.~_/"));
    let (in_release, path) = (digest(fields, "in_release"), text(fields, "path", "+-.~_/"));
    // What is no time is no reason to refuse a lock; it is only not asked about then.
    let date =
        fields.string("date").map(Spanned::into_inner).filter(|date| date.parse::<jiff::Timestamp>().is_ok());
    let keys = fields.list::<String>("keys").into_iter().map(Spanned::into_inner).collect();
    let (size, digest) = (size(fields), digest(fields, "digest"));
    Some(IndexPin {
        url: url?,
        suite: suite?,
        in_release: in_release?,
        date,
        keys,
        path: path?,
        size: size?,
        digest: digest?,
    })
}

fn package(fields: &mut Fields<'_, '_>) -> Option<PackagePin> {
    let (name, version) = (text(fields, "name", "+-."), text(fields, "version", "+-.~:"));
    let (architecture, suite) = (text(fields, "architecture", "-"), text(fields, "suite", "+-.~_/"));
    let (path, size, digest) = (text(fields, "path", "+-.~_:/%"), size(fields), digest(fields, "digest"));
    Some(PackagePin {
        name: name?,
        version: version?,
        architecture: architecture?,
        suite: suite?,
        path: path?,
        size: size?,
        digest: digest?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::source::Sources;
    use super::super::Lock;
    use super::*;

    fn lock() -> PackageLock {
        let sum = Digest::of(b"x");
        let package = |name: &str, suite: &str| PackagePin {
            name: name.to_owned(),
            version: "1:2~x+b1".to_owned(),
            architecture: "all".to_owned(),
            suite: suite.to_owned(),
            path: format!("pool/main/{name}_1%3a2~x+b1_all.deb"),
            size: 7,
            digest: sum,
        };
        let index = |suite: &str| IndexPin {
            url: "http://deb.debian.org/debian".to_owned(),
            suite: suite.to_owned(),
            in_release: sum,
            date: Some("2026-11-21T14:18:11Z".to_owned()),
            keys: vec!["AB".repeat(20)],
            path: "main/binary-amd64/Packages.xz".to_owned(),
            size: 9,
            digest: sum,
        };
        PackageLock {
            architecture: "amd64".to_owned(),
            requested: vec!["a".to_owned(), "b".to_owned()],
            indexes: vec![index("trixie"), index("trixie-updates")],
            packages: vec![package("a", "trixie"), package("b", "trixie-updates")],
        }
    }

    fn parse(text: &str) -> Lock {
        let mut sources = Sources::new("p.toml");
        sources.add("bundle.lock", text);
        Lock::parse(&sources)
    }

    #[test]
    fn what_is_written_is_read_and_written_again_the_same() {
        let mut first = parse("schema = 1");
        first.set_packages("backend", lock());
        let text = first.write();
        let again = parse(&text);
        assert!(again.faults().is_empty(), "{}", again.faults());
        assert_eq!(again.packages("backend", "amd64"), Some(&lock()));
        assert_eq!(again.write(), text);
        assert_eq!(again.packages("backend", "arm64"), None);
    }

    #[test]
    fn what_leads_elsewhere_or_contradicts_itself_is_refused() {
        let mut first = parse("schema = 1");
        first.set_packages("backend", lock());
        let text = first.write();
        for (from, to) in [
            ("pool/main/a_", "../a_"),
            ("pool/main/a_", "/pool/a_"),
            ("name = \"b\"", "name = \"a\""),
            ("name = \"a\"", "name = \"A B\""),
            ("suite = \"trixie-updates\", path = \"pool", "suite = \"sid\", path = \"pool"),
            ("size = 7", "size = -7"),
            ("size = 7", "size = 7, more = 1"),
            ("requested = ", "wanted = "),
        ] {
            assert!(text.contains(from));
            let read = parse(&text.replacen(from, to, 1));
            assert!(read.faults().has_errors(), "{from} {to}");
        }
    }
}
