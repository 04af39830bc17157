//! Routes and the proxy: who reaches a service from outside, and how.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::super::source::Span;
use super::view::View;
use super::{Report, Table, warning};

pub(super) const LINTS: Table = &[
    warning(
        "no-routes",
        "without a route the proxy answers every request with 503, and a switch asks nobody for health",
        no_routes,
    ),
    warning(
        "singleton-route",
        "the old one stops before the new one starts, so that every switch interrupts the route",
        singleton_route,
    ),
    warning(
        "webhook-tls-floor",
        "Telegram promises to speak TLS 1.2 or later, not 1.3: below the floor its updates are lost (core.telegram.org/bots/webhooks)",
        webhook_tls_floor,
    ),
    warning(
        "webhook-not-exempt",
        "a webhook's sender posts for everybody from few addresses, and a limit for each address turns it away",
        webhook_not_exempt,
    ),
    warning("exempt-everybody", "a limit from which everybody is exempt limits nobody", exempt_everybody),
];

fn no_routes(view: &View<'_>, report: &mut Report) {
    let profile = view.profile;
    let stateless =
        profile.services.keys().any(|name| !profile.is_stateful(name) && !view.is_migration(name));
    if stateless && view.names(&["routes"]).is_empty() {
        report
            .whole("routes", "the profile has no `[routes.NAME]`: nothing is reached from outside")
            .help("write `[routes.web]` with `service`, `port` and `health`");
    }
}

fn singleton_route(view: &View<'_>, report: &mut Report) {
    for (route, placed) in &view.profile.routes {
        let name = &placed.route.service;
        let Some(singleton) = view.profile.singletons.iter().find(|singleton| singleton.get_ref() == name)
        else {
            continue;
        };
        report
            .at(
                placed.service.clone(),
                format!("routes.{route}"),
                format!("route `{route}` leads to the singleton `{name}`"),
            )
            .also(singleton.span(), "never two at once")
            .help("the old one stops before the new one starts, so that every switch interrupts this route");
    }
}

/// From where Telegram posts (core.telegram.org/bots/webhooks, "The short version").
const TELEGRAM: [&str; 2] = ["149.154.160.0/20", "91.108.4.0/22"];

/// Networks that are not counted, each with its place.
fn exempt(view: &View<'_>) -> Vec<(Span, IpNet)> {
    let texts = view.texts(&["proxy", "exempt"]);
    texts.into_iter().filter_map(|(span, text)| Some((span, text.parse().ok()?))).collect()
}

/// The words of services and routes that speak of a webhook.
fn webhook(view: &View<'_>) -> Option<(Span, String, bool)> {
    let telegram = mentions_telegram(view);
    for (name, service) in &view.profile.services {
        if let Some(word) = view.words(name).into_iter().find(|word| word.says(&["webhook"])) {
            return Some((word.span, word.subject, telegram));
        }
        if let Some(secret) =
            service.secrets.iter().find(|secret| secret.get_ref().as_str().contains("webhook"))
        {
            return Some((secret.span(), format!("services.{name}.secrets"), telegram));
        }
    }
    for (route, placed) in &view.profile.routes {
        let host = view.text(&["routes", route.as_str(), "host"]).map(|(_, host)| host).unwrap_or_default();
        let path = view.text(&["routes", route.as_str(), "path"]).map(|(_, path)| path).unwrap_or_default();
        let named =
            |text: &str| text.contains("webhook") || text.split(['.', '/', '-']).any(|part| part == "hook");
        if named(host) || named(path) || named(route.as_str()) {
            return Some((placed.service.clone(), format!("routes.{route}"), telegram));
        }
    }
    None
}

fn mentions_telegram(view: &View<'_>) -> bool {
    let profile = view.profile;
    profile.secrets.keys().any(|name| name.as_str().contains("telegram"))
        || profile.services.keys().any(|name| view.words(name).iter().any(|word| word.says(&["telegram"])))
}

fn webhook_tls_floor(view: &View<'_>, report: &mut Report) {
    if !view.knows("proxy") {
        return;
    }
    let telegram: BTreeSet<IpNet> = TELEGRAM.iter().filter_map(|net| net.parse().ok()).collect();
    let exempt = exempt(view).into_iter().find(|(_, net)| telegram.contains(net)).map(|(span, _)| span);
    let word = webhook(view).filter(|(_, _, telegram)| *telegram).map(|(span, ..)| span);
    let Some(evidence) = exempt.or(word) else { return };
    let default = view.text(&["proxy", "min_tls"]);
    let lower = |text: Option<(Span, &str)>| text.is_some_and(|(_, version)| version == "1.2");
    let hosts = view.names(&["proxy", "hosts"]);
    if lower(default.clone())
        || hosts.iter().any(|host| lower(view.text(&["proxy", "hosts", host, "min_tls"])))
    {
        return;
    }
    let said = default.map(|(span, _)| span);
    let finding = report.at(
        said.clone().unwrap_or_else(|| evidence.clone()),
        "proxy",
        "Telegram's updates need TLS 1.3 here, and it promises 1.2",
    );
    if said.is_some() {
        finding.also(evidence, "its updates are expected");
    }
    finding.help("give the webhook a host of its own, and that host `min_tls = \"1.2\"`");
}

fn webhook_not_exempt(view: &View<'_>, report: &mut Report) {
    if !view.knows("proxy") || !exempt(view).is_empty() {
        return;
    }
    let Some((span, subject, telegram)) = webhook(view) else { return };
    let nets: Vec<String> = TELEGRAM.iter().map(|net| format!("\"{net}\"")).collect();
    let hint = if telegram {
        format!("write `exempt = [{}]` in `[proxy]`: from there Telegram posts", nets.join(", "))
    } else {
        "write the networks of its sender as `exempt = [\"…\"]` in `[proxy]`".to_owned()
    };
    report.at(span, subject, "a webhook's sender would be limited like a visitor").help(hint);
}

fn exempt_everybody(view: &View<'_>, report: &mut Report) {
    for (span, net) in exempt(view) {
        let whole = match net {
            IpNet::V4(net) => net.prefix_len() < 8,
            IpNet::V6(net) => net.prefix_len() < 16,
        };
        if whole {
            report
                .at(span, "proxy.exempt", format!("`{net}` takes much of the Internet out of the limit"))
                .help("name the sender's own networks");
        }
    }
}
