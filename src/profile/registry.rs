//! The tables `[registry]` and `[docker]`: through what the bundle and Docker reach a machine. Both may name a file of the
//! project, whose content is an input like the profile's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use toml::Spanned;

use crate::model::{SecretName, SecretOrigin};
use crate::spec::{DockerRepository, Login, OsRelease, Registry};

use super::diagnostics::Diagnostics;
use super::read::{Fields, as_table};
use super::schema::Profile;
use super::source::{Source, Span, Table, resolve_path};
use super::units::is_repository;

/// `[registry]`, and where it names its token.
#[derive(Debug, Clone)]
pub(crate) struct PlacedRegistry {
    pub(crate) registry: Registry,
    pub(crate) token: Option<Span>,
}

/// The paths of the files that a source names, as far as they can be made out; for the loader, which reads them.
pub(crate) fn files(source: &Source) -> Vec<String> {
    let (table, _) = source.parse();
    let find = |keys: &[&str]| {
        let mut value = table.get(*keys.first()?)?;
        for key in &keys[1..] {
            value = value.get_ref().as_table()?.get(*key)?;
        }
        Some(resolve_path(&source.path, value.get_ref().as_str()?))
    };
    let named: [&[&str]; 3] =
        [&["registry", "ca"], &["docker", "repository", "key"], &["certificates", "ca"]];
    named.into_iter().filter_map(find).collect()
}

/// Reads `[registry]`, whose header is at `place`.
pub(crate) fn read(table: &Table<'_>, place: Span, faults: &mut Diagnostics) -> Option<PlacedRegistry> {
    let mut fields = Fields::new("`registry`", table, faults);
    fields.require("repository", Some(place), "`repository = \"registry.example.com/team/app\"`");
    let repository = fields.string("repository").and_then(|text| repository(fields.faults, text));
    let activator = fields.string("activator").and_then(|text| self::repository(fields.faults, text));
    let ca = fields.string("ca").and_then(|path| certificates(fields.faults, &path));
    let user = fields.string("user");
    let token = fields.parsed::<SecretName>("token");
    let login = login(fields.faults, table, user, token.clone());
    fields.finish();
    let registry = Registry { repository: repository?, ca, login, activator };
    Some(PlacedRegistry { registry, token: token.map(|token| token.span()) })
}

fn repository(faults: &mut Diagnostics, text: Spanned<String>) -> Option<String> {
    let good = is_repository(text.get_ref());
    if !good {
        faults.error(text.span(), format!("`{}` is not a repository", text.get_ref())).help(
            "write host and path without scheme, tag or digest, such as `registry.example.com/team/app`",
        );
    }
    good.then(|| text.into_inner())
}

fn login(
    faults: &mut Diagnostics,
    table: &Table<'_>,
    user: Option<Spanned<String>>,
    token: Option<Spanned<SecretName>>,
) -> Option<Login> {
    for (one, other, what) in [
        ("user", "token", "the secret that is its password, such as `token = \"registry_token\"`"),
        ("token", "user", "the name that goes with it, such as `user = \"deploy\"`"),
    ] {
        if let Some(value) = table.get(one).filter(|_| !table.contains_key(other)) {
            faults
                .error(value.span(), format!("`registry.{one}` is there without `registry.{other}`"))
                .help(format!("write {what}"));
        }
    }
    let user = user.filter(|user| {
        // RFC 7617 §2: no colon, no control character; the rest is what registries give out.
        let text = user.get_ref();
        let good = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if !good {
            faults
                .error(user.span(), format!("`{text}` is not the name of a registry's user"))
                .help("it has printable ASCII characters, and no `:`");
        }
        good
    });
    Some(Login { user: user?.into_inner(), token: token?.into_inner() })
}

/// What is checked between `[registry]` and the secrets: its token comes from outside, by another way than the bundle.
pub(crate) fn check(profile: &Profile, faults: &mut Diagnostics) {
    let Some((login, span)) = profile
        .registry
        .as_ref()
        .and_then(|placed| Some((placed.registry.login.as_ref()?, placed.token.clone()?)))
    else {
        return;
    };
    let Some(secret) = profile.secrets.get(&login.token) else { return };
    let made = match secret.origin {
        SecretOrigin::Operator => return,
        SecretOrigin::Generate(_) => "is made on the machine",
        SecretOrigin::Template(_) => "is put together on the machine",
    };
    faults
        .error(span, format!("the secret `{}` {made}, and the registry would not know it", login.token))
        .also(secret.span.clone(), "declared here")
        .help(format!(
            "leave `[secrets.{}]` empty: the operator sends what the registry gave out",
            login.token
        ));
}

/// The text of the file that a value names, relative to the file in which the value stands.
fn named(faults: &mut Diagnostics, path: &Spanned<String>) -> Option<String> {
    let sources = faults.sources();
    let from = sources.at(path.span().start)?.path.clone();
    let file = resolve_path(&from, path.get_ref());
    if let Some(text) = sources.text(&file) {
        return Some(text.to_owned());
    }
    let reason = sources.unreadable(&file).unwrap_or("there is no such file").to_owned();
    faults
        .error(path.span(), format!("`{file}` cannot be read: {reason}"))
        .help("the path is relative to the file that it stands in");
    None
}

const PRIVATE: &str = "PRIVATE KEY-----";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The certificates of a PEM file (RFC 7468), without what stands around them.
fn certificates(faults: &mut Diagnostics, path: &Spanned<String>) -> Option<String> {
    let text = named(faults, path)?;
    let mut wrong = |message: String, help: &str| {
        faults.error(path.span(), message).help(help);
        None
    };
    let shown = path.get_ref();
    if text.contains(PRIVATE) {
        let message = format!("`{shown}` has a private key");
        return wrong(message, "its key stays with the authority: name a file that has certificates only");
    }
    let mut found = String::new();
    for (nth, block) in text.split(BEGIN).skip(1).enumerate() {
        let body = block.split_once(END).map(|(body, _)| body.split_whitespace().collect::<String>());
        let der = body.as_ref().and_then(|body| STANDARD.decode(body).ok());
        // A certificate is a SEQUENCE (RFC 5280 §4.1).
        let (Some(body), true) = (body, der.is_some_and(|der| der.starts_with(&[0x30]))) else {
            let message = format!("certificate {} in `{shown}` is not one", nth + 1);
            return wrong(message, "copy the file again, from `-----BEGIN` to `-----END` and with both");
        };
        found.push_str(BEGIN);
        found.push('\n');
        let mut rest = body.as_str();
        while !rest.is_empty() {
            // Base64 is ASCII.
            let (line, more) = rest.split_at(rest.len().min(64));
            found.push_str(line);
            found.push('\n');
            rest = more;
        }
        found.push_str(END);
        found.push('\n');
    }
    if found.is_empty() {
        return wrong(
            format!("`{shown}` has no certificate"),
            "write it in PEM: `-----BEGIN CERTIFICATE-----` …",
        );
    }
    Some(found)
}

/// The certificates that `[certificates]` names; what else is wrong with that table its kind says.
pub(crate) fn acme_ca(table: &Table<'_>, faults: &mut Diagnostics) -> Option<String> {
    let value = table.get("certificates")?.get_ref().as_table()?.get("ca")?;
    let path = Spanned::new(value.span(), value.get_ref().as_str()?.to_owned());
    certificates(faults, &path)
}

/// Reads `[docker]`, whose header is at `place`.
pub(crate) fn docker(table: &Table<'_>, place: Span, faults: &mut Diagnostics) -> Option<DockerRepository> {
    let mut fields = Fields::new("`docker`", table, faults);
    fields.require("repository", Some(place), "a table `[docker.repository]` with `url` and `key`");
    let value = fields.get("repository");
    fields.finish();
    let value = value?;
    let table = as_table(faults, "`docker.repository`", value)?;
    let mut fields = Fields::new("`docker.repository`", table, faults);
    fields.require("url", Some(value.span()), "`url = \"https://download.docker.com/linux/debian\"`");
    fields.require("key", Some(value.span()), "`key = \"docker.asc\"`, a file beside the profile");
    let url = fields.string("url").filter(|url| {
        let text = url.get_ref();
        let good = ["https://", "http://"]
            .iter()
            .any(|scheme| text.len() > scheme.len() && text.starts_with(scheme))
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":/._~%+-".contains(&b));
        if !good {
            fields
                .faults
                .error(url.span(), format!("`{text}` is not the address of a package repository"))
                .help("it is `https://download.docker.com/linux/debian`, or `…/ubuntu`, or a mirror of it");
        }
        good
    });
    let key = fields.string("key").and_then(|path| {
        let text = named(fields.faults, &path)?;
        let good = text.trim_start().starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----") && text.is_ascii();
        if !good {
            fields
                .faults
                .error(path.span(), format!("`{}` is not an armoured public key", path.get_ref()))
                .help("Docker's is at `https://download.docker.com/linux/debian/gpg`");
        }
        good.then_some(text)
    });
    fields.finish();
    Some(DockerRepository { url: url?.into_inner(), key: key? })
}

/// Refuses a release that has no Compose v2 of its own.
pub(crate) fn needs_docker(release: OsRelease, table: &Table<'_>, faults: &mut Diagnostics) {
    let image = table.get("droplet").and_then(|droplet| droplet.get_ref().as_table()?.get("image"));
    if let (OsRelease::Debian12, Some(image)) = (release, image) {
        faults
            .error(image.span(), "Debian 12 has no Compose v2: its `docker-compose` is the first version")
            .help("let Docker come from Docker: `[docker.repository]` with `url` and `key`; or take `debian-13-x64`");
    }
}
