//! `[packages.IMAGE.ARCHITECTURE]`: what an image's Debian packages were when somebody asked, down to their bytes, and
//! which signatures vouched for that. One package a line, so that a difference of two locks reads as what it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::Spanned;
use toml_writer::ToTomlValue as _;

use crate::model::{Digest, ImageName};
use crate::spec::{IndexPin, PackageLock, PackagePin};

use super::super::diagnostics::Diagnostics;
use super::super::read::{Fields, as_array, as_table, key_text, parse};
use super::super::source::Value;

/// The packages of images, by image and architecture.
pub(super) type Packages = BTreeMap<(ImageName, String), PackageLock>;

/// Reads the tables of one image.
pub(super) fn read(faults: &mut Diagnostics, name: &Spanned<String>, value: &Value<'_>) -> Packages {
    let mut all = Packages::new();
    let what = format!("`packages.{}`", key_text(name.get_ref()));
    let Some(image) = parse::<ImageName>(faults, name) else { return all };
    for (architecture, value) in as_table(faults, &what, value).into_iter().flatten() {
        let architecture = architecture.get_ref().to_string();
        let what = format!("`packages.{}.{}`", key_text(name.get_ref()), key_text(&architecture));
        if let Some(lock) = one(faults, &what, &architecture, value) {
            all.insert((image.get_ref().clone(), architecture), lock);
        }
    }
    all
}

fn one(faults: &mut Diagnostics, what: &str, architecture: &str, value: &Value<'_>) -> Option<PackageLock> {
    let mut fields = Fields::new(what, as_table(faults, what, value)?, faults);
    for key in ["requested", "indexes", "packages"] {
        fields.require(key, Some(value.span()), "what `bundle lock` writes");
    }
    let requested = fields.list::<String>("requested").into_iter().map(Spanned::into_inner).collect();
    let indexes = rows(&mut fields, what, "indexes", index);
    let packages = rows(&mut fields, what, "packages", package);
    fields.finish();
    Some(PackageLock {
        architecture: architecture.to_owned(),
        requested,
        indexes: indexes?,
        packages: packages?,
    })
}

/// The tables in the array under `key`; nothing if one of them cannot be read.
fn rows<T>(
    fields: &mut Fields<'_, '_>,
    what: &str,
    key: &'static str,
    read: impl Fn(&mut Fields<'_, '_>) -> Option<T>,
) -> Option<Vec<T>> {
    let value = fields.get(key)?;
    let mut all = Vec::new();
    let name = format!("`{}.{key}`", what.trim_matches('`'));
    for item in as_array(fields.faults, &name, value)? {
        let mut row = Fields::new(name.clone(), as_table(fields.faults, &name, item)?, fields.faults);
        let read = read(&mut row);
        row.finish();
        if read.is_none() {
            let faults = &mut fields.faults;
            faults
                .error(item.span(), format!("this line of {name} is not complete"))
                .help("run `bundle lock --update`");
        }
        all.push(read?);
    }
    Some(all)
}

fn index(row: &mut Fields<'_, '_>) -> Option<IndexPin> {
    let url = text(row, "url");
    let suite = text(row, "suite");
    let path = text(row, "path");
    let size = size(row);
    let digest = row.parsed::<Digest>("digest").map(Spanned::into_inner);
    let in_release = row.parsed::<Digest>("in_release").map(Spanned::into_inner);
    let keys = row.list::<String>("keys").into_iter().map(Spanned::into_inner).collect();
    Some(IndexPin {
        url: url?,
        suite: suite?,
        in_release: in_release?,
        keys,
        path: path?,
        size: size?,
        digest: digest?,
    })
}

fn package(row: &mut Fields<'_, '_>) -> Option<PackagePin> {
    let [name, version, architecture, suite, path] =
        ["name", "version", "architecture", "suite", "path"].map(|key| text(row, key));
    let size = size(row);
    let digest = row.parsed::<Digest>("digest").map(Spanned::into_inner);
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

fn text(row: &mut Fields<'_, '_>, key: &'static str) -> Option<String> {
    row.string(key).map(Spanned::into_inner).filter(|text| !text.is_empty())
}

fn size(row: &mut Fields<'_, '_>) -> Option<u64> {
    row.integer("size").and_then(|size| u64::try_from(size.into_inner()).ok())
}

/// Writes the tables.
pub(super) fn write(text: &mut String, packages: &Packages) {
    for ((image, architecture), lock) in packages {
        let _ = write!(text, "\n[packages.{}.{}]\n", key_text(image.as_str()), key_text(architecture));
        let names: Vec<String> = lock.requested.iter().map(|name| quoted(name)).collect();
        let _ = writeln!(text, "requested = [{}]", names.join(", "));
        text.push_str("indexes = [\n");
        for IndexPin { url, suite, in_release, keys, path, size, digest } in &lock.indexes {
            let [url, suite, path] = [url, suite, path].map(|text| quoted(text));
            let keys: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
            let _ = writeln!(
                text,
                "    {{ url = {url}, suite = {suite}, in_release = \"{in_release}\", keys = [{}], path = {path}, size = {size}, digest = \"{digest}\" }},",
                keys.join(", ")
            );
        }
        text.push_str("]\npackages = [\n");
        for PackagePin { name, version, architecture, suite, path, size, digest } in &lock.packages {
            let [name, version, architecture, suite, path] =
                [name, version, architecture, suite, path].map(|text| quoted(text));
            let _ = writeln!(
                text,
                "    {{ name = {name}, version = {version}, architecture = {architecture}, suite = {suite}, path = {path}, size = {size}, digest = \"{digest}\" }},"
            );
        }
        text.push_str("]\n");
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml_writer::TomlStringBuilder::new(text).as_default().to_toml_value()
}
