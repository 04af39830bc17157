//! `[debian]`: where packages come from.

use toml::Spanned;

use crate::spec::{DEBIAN_MIRROR, DEBIAN_SECURITY, DEBIAN_SNAPSHOT, DebianArchive};

use super::super::diagnostics::Diagnostics;
use super::super::read::Fields;
use super::super::source::{Table, resolve_path};

/// Reads the table, or says what holds without one.
pub(crate) fn read(table: Option<&Table<'_>>, faults: &mut Diagnostics) -> DebianArchive {
    let empty = Table::default();
    let mut fields = Fields::new("`debian`", table.unwrap_or(&empty), faults);
    let word = |fields: &mut Fields<'_, '_>, key: &'static str| {
        fields.string(key).filter(|text| {
            let good = !text.get_ref().is_empty()
                && text.get_ref().bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
            if !good {
                fields.faults.error(text.span(), format!("`{}` is not one word", text.get_ref()));
            }
            good
        })
    };
    let suite = word(&mut fields, "suite").map_or_else(|| "trixie".to_owned(), Spanned::into_inner);
    let snapshot = fields.string("snapshot").filter(|text| {
        let good = text.get_ref().len() == 16
            && text.get_ref().char_indices().all(|(nth, c)| match nth {
                8 => c == 'T',
                15 => c == 'Z',
                _ => c.is_ascii_digit(),
            });
        if !good {
            fields
                .faults
                .error(text.span(), format!("`{}` is not a time of the archive", text.get_ref()))
                .help("write it as snapshot.debian.org does, such as `20261101T000000Z`");
        }
        good
    });
    let snapshot = snapshot.map(Spanned::into_inner);
    let mirror = url(&mut fields, "mirror");
    let security = url(&mut fields, "security");
    let of_time = |name: &str| snapshot.as_ref().map(|time| format!("{DEBIAN_SNAPSHOT}/{name}/{time}"));
    let components: Vec<String> =
        fields.list::<String>("components").into_iter().map(Spanned::into_inner).collect();
    let keyring = fields.string("keyring").and_then(|path| {
        let from = fields.faults.sources().at(path.span().start)?.path.clone();
        Some(resolve_path(&from, path.get_ref()).into())
    });
    fields.finish();
    DebianArchive {
        suite,
        mirror: mirror.or_else(|| of_time("debian")).unwrap_or_else(|| DEBIAN_MIRROR.to_owned()),
        security: security
            .or_else(|| of_time("debian-security"))
            .unwrap_or_else(|| DEBIAN_SECURITY.to_owned()),
        snapshot,
        components: if components.is_empty() { vec!["main".to_owned()] } else { components },
        keyring,
    }
}

fn url(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<String> {
    let text = fields.string(key)?;
    let good = ["http://", "https://"].iter().any(|scheme| {
        text.get_ref().strip_prefix(scheme).is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b":/._~%+-".contains(&b))
        })
    });
    if !good {
        fields
            .faults
            .error(text.span(), format!("`{}` is not the address of a package archive", text.get_ref()))
            .help("it is `http://deb.debian.org/debian` or a mirror of it; what is fetched is verified either way");
    }
    good.then(|| text.get_ref().trim_end_matches('/').to_owned())
}
