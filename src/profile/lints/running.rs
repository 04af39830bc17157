//! How services start, say that they are well, and know where they run.

use crate::model::ServiceName;

use super::super::service::Service;
use super::view::View;
use super::{Report, Table, warning};

pub(super) const LINTS: Table = &[
    warning(
        "no-health-check",
        "without a question there is no answer: a switch takes a service that hangs for one that is ready",
        no_health_check,
    ),
    warning(
        "health-check-over-socket",
        "the server that prepares a new database answers on its socket only: it would count as ready before it is",
        health_check_over_socket,
    ),
    warning(
        "no-start-interval",
        "the Docker of the release is older than the key (Docker 25), so that a switch waits for a whole `interval`",
        no_start_interval,
    ),
    warning(
        "migration-at-start",
        "two slots then migrate at once, and every restart does it again: `migrations` runs once, before the slot starts",
        migration_at_start,
    ),
    warning(
        "debug-in-production",
        "debug modes show sources, settings and sometimes a shell to whoever causes an error",
        debug_in_production,
    ),
    warning(
        "build-time-variable",
        "the bundler has put its value into the JavaScript when the image was built: at run time nobody reads it",
        build_time_variable,
    ),
];

fn no_health_check(view: &View<'_>, report: &mut Report) {
    for (name, service) in &view.profile.services {
        let routed = view.profile.routes.values().any(|placed| &placed.route.service == name);
        // The kinds that know a server know how to ask it.
        let known = ["nginx", "postgres", "redis", "valkey"]
            .iter()
            .any(|kind| view.texts(&[*kind, "service"]).iter().any(|(_, service)| *service == name.as_str()));
        if routed || known || view.is_migration(name) || service.compose.contains_key("healthcheck") {
            continue;
        }
        report
            .at(
                service.span.clone(),
                format!("services.{name}"),
                format!("nobody asks service `{name}` whether it is well"),
            )
            .help(format!("write `[services.{name}.healthcheck]` with `test = [\"CMD\", \"program\", \"argument\"]`; if the image brings one, say so with `allow`"));
    }
}

fn health_check_over_socket(view: &View<'_>, report: &mut Report) {
    for (name, _) in view.profile.services.iter().filter(|(_, service)| {
        View::image(service)
            .is_some_and(|(image, _)| ["postgres", "postgis", "timescaledb", "pgvector"].contains(&image))
    }) {
        let words = view.texts(&["services", name.as_str(), "healthcheck", "test"]);
        let asks = words.iter().find(|(_, text)| text.contains("pg_isready"));
        let over_tcp = words.iter().any(|(_, text)| {
            text.split_whitespace().any(|word| word.starts_with("-h") || word.starts_with("--host"))
        });
        if let (Some((span, _)), false) = (asks, over_tcp) {
            report
                .at(
                    span.clone(),
                    format!("services.{name}.healthcheck"),
                    format!("`pg_isready` asks service `{name}` over its socket"),
                )
                .help("add `--host=127.0.0.1`");
        }
    }
}

/// Left out where the release's own Docker is too old for it.
fn no_start_interval(view: &View<'_>, report: &mut Report) {
    let Some((droplet, span)) = &view.profile.droplet else { return };
    let asks = |service: &Service| {
        service.compose.get("healthcheck").is_some_and(|check| check.get("start_interval").is_some())
    };
    if view.profile.docker_repository.is_none()
        && !droplet.release.knows_start_interval()
        && view.profile.services.values().any(asks)
    {
        report
            .at(
                span.clone(),
                "droplet",
                "the Docker of this release knows no `start_interval`, so it is left out of health checks",
            )
            .help("it came with Docker 25: take Docker's own packages (`[docker.repository]`), or wait for a whole `interval`");
    }
}

/// How migration tools are called that people put in front of their server.
const MIGRATE: [&str; 12] = [
    "aerich upgrade",
    "alembic upgrade",
    "artisan migrate",
    "atlas migrate",
    "db:migrate",
    "drizzle-kit migrate",
    "flask db upgrade",
    "flyway migrate",
    "goose up",
    "knex migrate",
    "manage.py migrate",
    "prisma migrate deploy",
];

fn runs_always(view: &View<'_>, name: &ServiceName) -> bool {
    !view.profile.is_stateful(name) && !view.is_migration(name)
}

fn migration_at_start(view: &View<'_>, report: &mut Report) {
    for name in view.profile.services.keys().filter(|name| runs_always(view, name)) {
        for key in ["command", "entrypoint"] {
            let texts = view.texts(&["services", name.as_str(), key]);
            let whole = texts.iter().map(|(_, text)| *text).collect::<Vec<_>>().join(" ");
            if let (Some(tool), Some((span, _))) =
                (MIGRATE.iter().find(|tool| whole.contains(**tool)), texts.first())
            {
                report
                    .at(
                        span.clone(),
                        format!("services.{name}.{key}"),
                        format!("service `{name}` runs `{tool}` whenever it starts"),
                    )
                    .help("make it a service of its own, and name that in `migrations = \"…\"`");
            }
        }
    }
}

const FLAGS: [&str; 6] =
    ["APP_DEBUG", "DEBUG", "DJANGO_DEBUG", "FASTAPI_DEBUG", "FLASK_DEBUG", "WERKZEUG_DEBUG"];
const MODES: [&str; 5] = ["APP_ENV", "ENVIRONMENT", "FLASK_ENV", "NODE_ENV", "RAILS_ENV"];

fn debug_in_production(view: &View<'_>, report: &mut Report) {
    if view.profile.environment.as_deref() != Some("production") {
        return;
    }
    for word in view.all_variables() {
        let key = word.key.unwrap_or_default();
        let text = word.text.to_ascii_lowercase();
        let debug = FLAGS.contains(&key) && ["1", "true", "yes", "on"].contains(&&*text);
        let mode = MODES.contains(&key) && ["dev", "development", "debug", "local"].contains(&&*text);
        if debug || mode {
            report
                .at(word.span, word.subject, format!("`{key}` is `{}` in production", word.text))
                .help("services are told where they run in `BUNDLE_ENVIRONMENT`");
        }
    }
}

/// Prefixes of variables that bundlers put into the browser's JavaScript (the documentation of Next.js, Vite, Create React App, Gatsby, Expo).
const BUILD_TIME: [&str; 5] = ["EXPO_PUBLIC_", "GATSBY_", "NEXT_PUBLIC_", "REACT_APP_", "VITE_"];

fn build_time_variable(view: &View<'_>, report: &mut Report) {
    for word in view.all_variables() {
        let key = word.key.unwrap_or_default();
        if BUILD_TIME.iter().any(|prefix| key.starts_with(prefix)) {
            report.at(word.span, word.subject, format!("`{key}` was decided when the image was built")).help(
                "build the image with it, or let the server read a variable of another name and hand it on",
            );
        }
    }
}
