//! How services reach databases, ours and managed ones.

use crate::model::{SecretOrigin, ServiceName};

use super::super::source::Span;
use super::view::View;
use super::{Report, Table, warning};

pub(super) const LINTS: Table = &[
    warning(
        "localhost-in-container",
        "inside a container `localhost` is the container itself, where no database listens",
        localhost,
    ),
    warning(
        "migrations-through-pool",
        "a pool in transaction mode loses the session: advisory locks and prepared statements of migration tools fail",
        migrations_through_pool,
    ),
    warning(
        "plain-connection",
        "a database outside the machine would get its password, and all data, unencrypted over the network",
        plain_connection,
    ),
];

/// A URL of a database, as far as lints ask.
struct Url<'u> {
    scheme: &'u str,
    host: &'u str,
    port: &'u str,
    rest: &'u str,
}

const SCHEMES: [&str; 8] =
    ["amqp", "mongodb", "mysql", "postgres", "postgresql", "redis", "rediss", "valkey"];

fn url(text: &str) -> Option<Url<'_>> {
    let (scheme, after) = text.split_once("://")?;
    let family = scheme.split('+').next()?;
    SCHEMES.contains(&family).then_some(())?;
    let end = after.find(['/', '?']).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    let address = authority.rsplit('@').next()?;
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    Some(Url { scheme: family, host, port, rest })
}

/// Every URL of a database: in a service's environment and commands, and in templates of secrets.
fn each_url(view: &View<'_>, mut see: impl FnMut(Span, String, &Url<'_>)) {
    for name in view.profile.services.keys() {
        for word in view.words(name) {
            for found in word.text.split_whitespace().filter_map(url) {
                see(word.span.clone(), word.subject.clone(), &found);
            }
        }
    }
    for (name, secret) in &view.profile.secrets {
        if let SecretOrigin::Template(text) = &secret.origin
            && let Some(found) = url(text)
        {
            let place = view.text(&["secrets", name.as_str(), "template"]);
            let span = place.map_or_else(|| secret.span.clone(), |(span, _)| span);
            see(span, format!("secrets.{name}"), &found);
        }
    }
}

fn localhost(view: &View<'_>, report: &mut Report) {
    each_url(view, |span, subject, url| {
        if ["localhost", "127.0.0.1", "[::1]"].contains(&url.host) {
            report
                .at(span, subject, format!("`{}` is the container itself", url.host))
                .help("write the name of the service: all of them stand on the network `data`");
        }
    });
}

/// `DigitalOcean`'s managed pools listen on 25061, `PgBouncer` on 6432.
fn migrations_through_pool(view: &View<'_>, report: &mut Report) {
    let Some(migrations) = view.profile.migrations.as_ref().map(toml::Spanned::get_ref) else { return };
    let read = reads(view, migrations);
    each_url(view, |span, subject, url| {
        let pooled = ["25061", "6432"].contains(&url.port)
            || url.host.contains("pooler")
            || url.host.contains("pgbouncer");
        if url.scheme.starts_with("postgres") && pooled && read(&subject) {
            report
                .at(span, subject, format!("`{migrations}` would migrate through a pool of connections"))
                .help("give migrations a URL of their own that reaches the database itself (managed: port 25060)");
        }
    });
}

/// Whether what a subject is about is read by a service.
fn reads<'v>(view: &'v View<'_>, name: &'v ServiceName) -> impl Fn(&str) -> bool + 'v {
    move |subject| {
        let own = format!("services.{name}.");
        let secrets = view.profile.services.get(name).map(|service| service.secrets.as_slice());
        subject.starts_with(&own)
            || secrets
                .unwrap_or_default()
                .iter()
                .any(|secret| subject == format!("secrets.{}", secret.get_ref()))
    }
}

fn plain_connection(view: &View<'_>, report: &mut Report) {
    each_url(view, |span, subject, url| {
        // A name without dots is a service; one with dots is another machine.
        if !url.host.contains('.') || url.host == "127.0.0.1" {
            return;
        }
        let (plain, hint) = match url.scheme {
            "redis" | "valkey" => (true, "write `rediss://`"),
            "postgres" | "postgresql" => {
                let modes = [
                    "sslmode=require",
                    "sslmode=verify-ca",
                    "sslmode=verify-full",
                    "ssl=require",
                    "ssl=true",
                ];
                (
                    !modes.iter().any(|mode| url.rest.contains(mode)),
                    "add `?sslmode=require`, or `verify-full` with its authority",
                )
            }
            "amqp" => (true, "write `amqps://`"),
            _ => (false, ""),
        };
        if plain {
            report.at(span, subject, format!("the connection to `{}` is not encrypted", url.host)).help(hint);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url =
            url("postgresql+asyncpg://a:{{ p | urlencode }}@db.example.com:25061/x?sslmode=require").unwrap();
        assert_eq!((url.scheme, url.host, url.port), ("postgresql", "db.example.com", "25061"));
        assert_eq!(url.rest, "/x?sslmode=require");
        assert!(super::url("https://example.com").is_none());
    }
}
