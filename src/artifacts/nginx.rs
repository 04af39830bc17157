//! `[nginx]` → `nginx/nginx.conf`: a static site behind the proxy.
//!
//! The site's files are in the image, or come to `root` by the service's `volumes`. The server needs no capability and no
//! writable root; TLS, limits of requests and the redirect are the proxy's. Options are those of nginx 1.18 and later.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::format::Refused;
use super::format::nginx::Conf;
use super::{Artifact, Entry, Problem, RenderError, Section, ServiceMount, Tree, literal};
use crate::model::ServiceName;
use crate::spec::{Placement, Service, Spec};

/// A site of files, served by nginx in a container.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nginx {
    /// The stateless service that it configures. A route leads to it.
    #[schemars(example = &"frontend")]
    service: ServiceName,
    /// Where the container has the site's files. Default: `/usr/share/nginx/html`, as in the official image.
    #[serde(default = "default_root")]
    root: String,
    /// The port that it listens on, 1024 or above. Default: 8080.
    #[serde(default = "default_port")]
    port: u16,
    /// The path that answers 200 as long as the server runs. Default: `/healthz`.
    #[serde(default = "default_health")]
    health: String,
    /// The page that is sent for every path that is no file, as single-page applications want it: `/index.html`.
    /// Default: such a path is 404.
    #[schemars(example = &"/index.html")]
    fallback: Option<String>,
    /// The page that is sent with 404, as in `/404.html`. Default: the server's own.
    #[schemars(example = &"/404.html")]
    not_found: Option<String>,
    /// The beginnings of paths whose files never change, because their names do: browsers keep them for a year. Everything
    /// else is asked for again each time. Default: none.
    #[serde(default)]
    immutable: Vec<String>,
    /// Headers of every answer, by name. They win over ours (`X-Content-Type-Options`, `X-Frame-Options`,
    /// `Referrer-Policy`, `Content-Security-Policy`, `Permissions-Policy`); empty: the answer has none of that name.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

fn default_root() -> String {
    "/usr/share/nginx/html".to_owned()
}

fn default_port() -> u16 {
    8080
}

fn default_health() -> String {
    "/healthz".to_owned()
}

const CONF: &str = "nginx/nginx.conf";
/// Beside the image's own, which its entrypoint may want to change.
const CONF_IN_CONTAINER: &str = "/etc/nginx/bundle.conf";

/// What every answer says (OWASP, "HTTP Security Response Headers Cheat Sheet"). A policy for scripts only the site
/// itself can write; this one keeps others from framing it and from moving its base. `Strict-Transport-Security` is the
/// proxy's.
const HEADERS: [(&str, &str); 5] = [
    ("Content-Security-Policy", "base-uri 'self'; frame-ancestors 'self'; object-src 'none'"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
];

impl Section for Nginx {
    const KIND: &'static str = "nginx";
    const TABLE: Option<&'static str> = Some("nginx");

    fn absent() -> Option<Self> {
        None
    }
}

impl Artifact for Nginx {
    fn check(&self, spec: &Spec) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.check_service(spec).into_iter().collect();
        if self.port < 1024 {
            let message = format!("port {} needs a right that the server does not have", self.port);
            let hint = Some("take one from 1024 up, such as 8080: the proxy has the public ones".to_owned());
            problems.push(literal::problem("port", message, hint));
        }
        for (key, path) in [("fallback", &self.fallback), ("not_found", &self.not_found)] {
            problems.extend(path.as_ref().and_then(|path| path_fault(key, path)));
        }
        problems.extend(path_fault("root", &self.root));
        problems.extend(path_fault("health", &self.health));
        for (nth, path) in self.immutable.iter().enumerate() {
            let fault = path_fault("immutable", path).or_else(|| {
                (!path.ends_with('/')).then(|| {
                    literal::problem(
                        "immutable",
                        format!("`{path}` is not a directory"),
                        Some("end it with `/`".to_owned()),
                    )
                })
            });
            problems.extend(
                fault.map(|problem| Problem { at: vec!["immutable".to_owned(), nth.to_string()], ..problem }),
            );
        }
        for (name, value) in &self.headers {
            problems.extend(header_fault(name, value));
        }
        problems
    }

    fn render(&self, spec: &Spec, tree: &mut Tree) -> Result<(), RenderError> {
        let service = literal::service(spec, Self::KIND, &self.service)?;
        let conf = self.conf(spec, service).map_err(|refused| refused.at(CONF))?;
        let store = tree.insert(Entry::text(Self::KIND, literal::path(CONF)?, conf))?;
        let mount = ServiceMount { source: store.absolute(), target: CONF_IN_CONTAINER.to_owned() };
        tree.mount(&self.service, mount);
        tree.command(&self.service, ["nginx", "-c", CONF_IN_CONTAINER].map(str::to_owned).to_vec());
        let name = &self.service;
        // The official image's own user, in all its variants (nginx/docker-nginx, `Dockerfile`).
        tree.suggest(name, "user", json!("101:101"));
        tree.suggest(name, "read_only", json!(true));
        tree.suggest(name, "tmpfs", json!(["/tmp:size=64m,mode=1777,noexec,nosuid,nodev"]));
        // SIGQUIT lets requests end (nginx documentation, "Controlling nginx"); the proxy has sent none for a while.
        tree.suggest(name, "stop_signal", json!("SIGQUIT"));
        let url = format!("http://127.0.0.1:{}{}", self.port, self.health);
        // Debian's variant has curl, Alpine's has wget.
        let command = format!("curl --fail --silent --show-error {url} || wget -q -O /dev/null {url}");
        tree.suggest(
            name,
            "healthcheck",
            json!({
                "interval": "10s",
                "retries": 3,
                "start_interval": "1s",
                "start_period": "10s",
                "test": ["CMD-SHELL", command],
                "timeout": "5s",
            }),
        );
        Ok(())
    }
}

impl Nginx {
    fn check_service(&self, spec: &Spec) -> Option<Problem> {
        let Some(service) = spec.services.get(&self.service) else {
            return literal::check_service(spec, &self.service);
        };
        if service.placement == Placement::Data {
            let message =
                format!("service `{}` is stateful, and a site is replaced by every release", self.service);
            let hint = Some(format!("take `{}` out of `stateful`", self.service));
            return Some(literal::problem("service", message, hint));
        }
        let route = spec.routes.values().find(|route| route.service == self.service)?;
        (route.port != self.port).then(|| {
            let message = format!(
                "a route asks `{}` at port {}, and it listens on {}",
                self.service, route.port, self.port
            );
            literal::problem("port", message, Some("write the same port in both".to_owned()))
        })
    }

    fn conf(&self, spec: &Spec, service: &Service) -> Result<String, Refused> {
        let mut conf = Conf::default();
        conf.comment(
            "One process for each processor that the container may use; what it writes is below /tmp.",
        )
        .fixed(&["daemon off;", "pid /tmp/nginx.pid;", "error_log stderr warn;"])
        .set("worker_processes", &[&literal::processors(spec, service).to_string()])?;
        conf.open("events", &[])?.fixed(&["worker_connections 1024;"]).close();
        conf.open("http", &[])?;
        conf.fixed(&[
            "include /etc/nginx/mime.types;",
            "default_type application/octet-stream;",
            "charset utf-8;",
            "client_body_temp_path /tmp/client_body;",
            "fastcgi_temp_path /tmp/fastcgi;",
            "proxy_temp_path /tmp/proxy;",
            "scgi_temp_path /tmp/scgi;",
            "uwsgi_temp_path /tmp/uwsgi;",
            "sendfile on;",
            "tcp_nopush on;",
            "server_tokens off;",
        ]);
        conf.comment("A site is read: nobody has anything to send.").fixed(&[
            "client_max_body_size 1k;",
            "client_header_timeout 5s;",
            "client_body_timeout 5s;",
            "send_timeout 30s;",
            "reset_timedout_connection on;",
        ]);
        conf.comment("The proxy says who asked; nobody else reaches the port.");
        for network in [spec.networks.blue, spec.networks.green] {
            conf.set("set_real_ip_from", &[&network.trunc().to_string()])?;
        }
        conf.fixed(&["real_ip_header X-Forwarded-For;", "access_log /dev/stdout combined;"]);
        conf.comment("Text is a third of itself when packed.").fixed(&[
            "gzip on;",
            "gzip_vary on;",
            "gzip_proxied any;",
            "gzip_comp_level 5;",
            "gzip_min_length 1024;",
            "gzip_types application/javascript application/json application/manifest+json application/wasm application/xml image/svg+xml text/css text/javascript text/plain text/xml;",
        ]);
        self.server(&mut conf)?;
        conf.close();
        Ok(conf.finish())
    }

    fn server(&self, conf: &mut Conf) -> Result<(), Refused> {
        conf.open("server", &[])?;
        conf.set("listen", &[&self.port.to_string(), "default_server"])?
            .set("root", &[&self.root])?
            .fixed(&["server_name _;", "index index.html;", "absolute_redirect off;"]);
        conf.comment("No location has headers of its own: one would take all of these away.");
        let ours =
            HEADERS.iter().filter(|(name, _)| !self.headers.keys().any(|own| own.eq_ignore_ascii_case(name)));
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in ours.copied().chain(own).filter(|(_, value)| !value.is_empty()) {
            conf.set("add_header", &[name, value, "always"])?;
        }
        conf.fixed(&["set $cache no-cache;", "add_header Cache-Control $cache;"]);
        if let Some(page) = &self.not_found {
            conf.set("error_page", &["404", page])?;
        }
        conf.fixed(&["if ($request_method !~ ^(GET|HEAD)$) {", "    return 405;", "}"]);
        conf.open("location =", &[&self.health])?
            .fixed(&["access_log off;", "default_type text/plain;", "return 200 \"ok\\n\";"])
            .close();
        conf.comment("Files of tools, not of the site.");
        conf.fixed(&["location ~ /\\.(?!well-known/) {", "    return 404;", "}"]);
        for path in &self.immutable {
            conf.open("location ^~", &[path])?
                .fixed(&["set $cache \"public, max-age=31536000, immutable\";", "try_files $uri =404;"])
                .close();
        }
        conf.open("location", &["/"])?;
        match &self.fallback {
            None => conf.fixed(&["try_files $uri $uri/ =404;"]),
            Some(page) => conf.set("try_files $uri $uri/", &[page])?,
        };
        conf.close().close();
        Ok(())
    }
}

/// Absolute, in plain characters, and without a way up.
fn path_fault(key: &str, path: &str) -> Option<Problem> {
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-~+@".contains(&b));
    let fine =
        path.starts_with('/') && plain && path.len() <= 255 && !path.split('/').any(|part| part == "..");
    (!fine).then(|| {
        let hint = Some("it begins with `/` and has letters, digits, `.`, `_`, `-` and `/`".to_owned());
        literal::problem(key, format!("`{path}` is not an absolute path"), hint)
    })
}

/// A name (RFC 9110 §5.1), a value on one line, and nothing of what is decided elsewhere.
fn header_fault(name: &str, value: &str) -> Option<Problem> {
    let at = vec!["headers".to_owned(), name.to_owned()];
    let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let elsewhere =
        ["cache-control", "content-length", "content-type", "server", "strict-transport-security"];
    let message = if !token {
        format!("`{name}` is not the name of a header")
    } else if elsewhere.contains(&name.to_ascii_lowercase().as_str()) {
        format!("`{name}` is not this table's to say")
    } else if value.contains('$') || value.chars().any(char::is_control) {
        format!("`{name}` has a `$` or a control character, which nginx cannot be given")
    } else {
        return None;
    };
    Some(Problem { at, message, hint: None })
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use crate::model::Slot;

    const SITE: &str = "\n[nginx]\nservice = 'backend'\nport = 8000\nfallback = '/index.html'\nimmutable = ['/assets/']\n\
                        headers = { X-Frame-Options = '', X-Team = 'market' }\n";

    #[test]
    fn renders() {
        let tree = fixture::render_with(&fixture::spec(), "\n[proxy]", &format!("{SITE}\n[proxy]"));
        insta::assert_snapshot!("nginx.conf", fixture::text(&tree, CONF, Slot::Blue));
        let slot = fixture::text(&tree, "compose/blue.yaml", Slot::Blue);
        assert!(slot.contains("target: /etc/nginx/bundle.conf") && slot.contains("- nginx\n"), "{slot}");
    }

    #[test]
    fn what_cannot_be_served_is_a_problem_at_its_place() {
        let at = |toml: &str| -> Vec<Vec<String>> {
            let nginx: Nginx = toml::from_str(toml).unwrap();
            nginx.check(&fixture::spec()).into_iter().map(|problem| problem.at).collect()
        };
        assert_eq!(at("service = 'backend'\nport = 8000"), [[""; 0]; 0]);
        assert_eq!(at("service = 'backend'"), [["port"]]);
        assert_eq!(at("service = 'redis'\nport = 80"), [["service"], ["port"]]);
        assert_eq!(at("service = 'nobody'"), [["service"]]);
        let expected: [&[&str]; 6] = [
            &["fallback"],
            &["root"],
            &["immutable", "1"],
            &["headers", "Server"],
            &["headers", "X-A"],
            &["headers", "X A"],
        ];
        let wrong = "service = 'worker'\nfallback = 'index.html'\nroot = '/srv/../etc'\nimmutable = ['/a/', '/b']\n\
                     headers = { Server = 'x', X-A = '$host', 'X A' = '' }";
        let mut seen = at(wrong);
        seen.sort();
        let mut expected = expected.map(<[&str]>::to_vec);
        expected.sort();
        assert_eq!(seen, expected);
    }
}
