//! What must run once, and what must not be forgotten.

use crate::model::ServiceName;

use super::super::service::Service;
use super::super::source::Span;
use super::view::View;
use super::{Report, Table, warning};

pub(super) const LINTS: Table = &[
    warning(
        "queue-in-evicting-cache",
        "a cache that is full throws away keys, jobs among them, and nobody hears of it (redis.io, \"Key eviction\")",
        queue_in_evicting_cache,
    ),
    warning(
        "polling-bot",
        "two long polls for one bot end each other with 409, and every message may be handled twice (core.telegram.org/bots/api, getUpdates)",
        polling_bot,
    ),
    warning(
        "scheduler-not-singleton",
        "while a switch is under way both slots run: two schedulers start every job twice",
        scheduler,
    ),
];

/// Words of programs that keep jobs in Redis.
const QUEUES: [&str; 15] = [
    "arq",
    "bee-queue",
    "bull",
    "bullmq",
    "celery",
    "dramatiq",
    "faktory",
    "huey",
    "queue",
    "resque",
    "rq",
    "sidekiq",
    "stream",
    "taskiq",
    "xadd",
];

/// Whether one of its words, taken apart at everything that is no letter or digit, is one of these, or its plural.
fn says_word(text: &str, words: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    let mut parts = text.split(|c: char| !c.is_ascii_alphanumeric());
    parts.any(|part| words.contains(&part) || part.strip_suffix('s').is_some_and(|one| words.contains(&one)))
}

/// The place at which a service says one of these words: in its name, its commands or its environment.
fn place_of(view: &View<'_>, name: &ServiceName, service: &Service, words: &[&str]) -> Option<Span> {
    if says_word(name.as_str(), words) {
        return Some(service.span.clone());
    }
    let hit = |word: &super::view::Word<'_>| {
        says_word(word.text, words) || word.key.is_some_and(|key| says_word(key, words))
    };
    view.words(name).into_iter().find(hit).map(|word| word.span)
}

/// The first sign of a queue: somebody who speaks of one, or a singleton that reads Redis.
fn queue(view: &View<'_>, cache: &str) -> Option<(Span, String)> {
    for (name, service) in view.profile.services.iter().filter(|(name, _)| name.as_str() != cache) {
        if let Some(span) = place_of(view, name, service, &QUEUES) {
            return Some((span, format!("`{name}` keeps jobs")));
        }
        let reads = service.secrets.iter().any(|secret| {
            let name = secret.get_ref().as_str();
            name.contains("redis") || name.contains("valkey")
        }) || view.words(name).iter().any(|word| word.says(&["redis", "valkey"]));
        let works = view.is_singleton(name) || says_word(name.as_str(), &["worker"]);
        if reads && works && !view.is_migration(name) {
            return Some((service.span.clone(), format!("`{name}` reads it, and looks like a worker")));
        }
    }
    None
}

fn queue_in_evicting_cache(view: &View<'_>, report: &mut Report) {
    for table in ["redis", "valkey"] {
        let Some((span, policy)) = view.text(&[table, "policy"]) else { continue };
        let service = view.text(&[table, "service"]).map(|(_, name)| name).unwrap_or_default();
        // `volatile-*` throws away only what was given a time to live, which jobs are not.
        if policy.starts_with("allkeys-") {
            evicting(view, report, span, format!("{table}.policy"), service, policy);
        }
    }
    for (name, service) in &view.profile.services {
        if !View::image(service).is_some_and(|(image, _)| ["redis", "valkey"].contains(&image)) {
            continue;
        }
        let words = view.texts(&["services", name.as_str(), "command"]);
        let policy = words.into_iter().find_map(|(span, text)| {
            let policy = text.split_whitespace().find(|word| word.starts_with("allkeys-"))?;
            Some((span, policy))
        });
        if let Some((span, policy)) = policy {
            evicting(view, report, span, format!("services.{name}.command"), name.as_str(), policy);
        }
    }
}

fn evicting(view: &View<'_>, report: &mut Report, span: Span, subject: String, cache: &str, policy: &str) {
    if let Some((place, sign)) = queue(view, cache) {
        report
            .at(span, subject, format!("`{policy}` throws away keys, and a queue seems to live here"))
            .also(place, sign)
            .help("write `noeviction`, or give the queue a service of its own beside the cache");
    }
}

/// Whether a slot runs it, twice at once during a switch.
fn runs_twice(view: &View<'_>, name: &ServiceName) -> bool {
    !view.profile.is_stateful(name) && !view.is_singleton(name) && !view.is_migration(name)
}

const POLLING: [&str; 8] = [
    "getupdates",
    "infinity_polling",
    "long-poll",
    "long_poll",
    "longpoll",
    "polling",
    "run_polling",
    "start_polling",
];

fn polling_bot(view: &View<'_>, report: &mut Report) {
    for (name, service) in view.profile.services.iter().filter(|(name, _)| runs_twice(view, name)) {
        let routed = view.profile.routes.values().any(|placed| &placed.route.service == name);
        let word = view.words(name).into_iter().find(|word| {
            let off = ["false", "0", "no", "off"].contains(&word.text);
            word.says(&POLLING) && !off
        });
        let named = !routed && says_word(name.as_str(), &["bot", "poller"]);
        let span = word.map(|word| word.span).or_else(|| named.then(|| service.span.clone()));
        let Some(span) = span else { continue };
        report
            .at(
                span,
                format!("services.{name}"),
                format!("service `{name}` seems to poll, and runs twice during a switch"),
            )
            .help(format!(
                "name it in `singletons = [\"{name}\"]`, or let it take a webhook through a route"
            ));
    }
}

const SCHEDULERS: [&str; 10] = [
    "apscheduler",
    "beat",
    "celerybeat",
    "clockwork",
    "cron",
    "crond",
    "redbeat",
    "rqscheduler",
    "scheduler",
    "supercronic",
];

fn scheduler(view: &View<'_>, report: &mut Report) {
    for (name, service) in view.profile.services.iter().filter(|(name, _)| runs_twice(view, name)) {
        let commands = ["command", "entrypoint"];
        let texts = commands.iter().flat_map(|key| view.texts(&["services", name.as_str(), key]));
        let word = texts.into_iter().find(|(_, text)| says_word(text, &SCHEDULERS)).map(|(span, _)| span);
        let named = says_word(name.as_str(), &SCHEDULERS).then(|| service.span.clone());
        let Some(span) = word.or(named) else { continue };
        report
            .at(
                span,
                format!("services.{name}"),
                format!("service `{name}` seems to be a scheduler, and runs twice during a switch"),
            )
            .help(format!("name it in `singletons = [\"{name}\"]`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_whole_word() {
        assert!(says_word("celery -A app worker", &QUEUES));
        assert!(says_word("JOB_QUEUES", &QUEUES));
        assert!(says_word("/usr/bin/bullmq", &QUEUES));
        assert!(!says_word("bulletin", &QUEUES));
        assert!(!says_word("heartbeat", &SCHEDULERS));
    }
}
