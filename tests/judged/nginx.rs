//! nginx: the site as a browser sees it.

use std::path::Path;

use crate::cell::{Cell, address};
use crate::laid::{Laid, repository};

#[test]
fn a_site_is_served_with_its_headers_and_nothing_else() {
    let profiles = repository().join("tests/judged/profiles");
    let laid = Laid::over(&profiles, "everything", "");
    assert!(Path::new("/usr/sbin/nginx").exists(), "this machine has no nginx: run tests/setup");
    let service = laid.service("blue", "site-blue");
    let (own, proxy) = (address(&service, "blue"), "10.89.1.1");
    let addresses = [format!("{own}/24"), format!("{proxy}/24")];
    let mut cell = Cell::new(&laid, service, Path::new("/"), None, &addresses, &[]);
    // It opens its log by the path of its own output, which must be its own.
    cell.ok(&[
        "sh",
        "-c",
        "nginx -t -c /etc/nginx/bundle.conf >/tmp/judged 2>&1 || { cat /tmp/judged >&2; exit 1; }",
    ]);
    cell.start(&[]);
    cell.await_healthy();
    let get = |path: &str, more: &[&str]| {
        let url = format!("http://{own}:8080{path}");
        cell.ok(&[
            &["curl", "--silent", "--include", "--max-time", "10", "--path-as-is"],
            more,
            &[url.as_str()],
        ]
        .concat())
    };

    let page = get("/", &[]);
    for line in [
        "HTTP/1.1 200 OK",
        "Content-Type: text/html; charset=utf-8",
        "Cache-Control: no-cache",
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: DENY",
        "Referrer-Policy: strict-origin-when-cross-origin",
        "Content-Security-Policy: base-uri 'self'; frame-ancestors 'self'; object-src 'none'",
        "Server: nginx",
        "<h1>A site</h1>",
    ] {
        assert!(page.lines().any(|got| got.trim_end() == line), "{line:?} is not in {page}");
    }
    assert!(!page.contains("Permissions-Policy"), "the profile took it out: {page}");

    let asset = get("/assets/app.4f2a.js", &[]);
    assert!(
        asset.starts_with("HTTP/1.1 200")
            && asset.contains("Cache-Control: public, max-age=31536000, immutable")
    );
    assert!(
        asset.contains("X-Content-Type-Options: nosniff") && asset.contains("text/javascript")
            || asset.contains("application/javascript"),
        "{asset}"
    );
    let packed = get("/assets/app.4f2a.js", &["--compressed", "--output", "/dev/null", "--dump-header", "-"]);
    assert!(
        packed.contains("Content-Encoding: gzip") && packed.contains("Vary: Accept-Encoding"),
        "{packed}"
    );
    let missing = get("/assets/gone.js", &[]);
    assert!(missing.starts_with("HTTP/1.1 404") && !missing.contains("immutable"), "{missing}");
    assert!(missing.contains("X-Content-Type-Options: nosniff"), "{missing}");

    let route = get("/orders/7", &[]);
    assert!(route.starts_with("HTTP/1.1 200") && route.contains("<h1>A site</h1>"), "{route}");
    assert!(get("/healthz", &[]).ends_with("\r\n\r\nok"));
    for path in ["/.git/config", "/assets/../.env", "/.env"] {
        let hidden = get(path, &[]);
        assert!(hidden.starts_with("HTTP/1.1 404"), "{path}: {hidden}");
    }
    for (path, method) in [("/", "POST"), ("/assets/app.4f2a.js", "DELETE"), ("/", "TRACE")] {
        let refused = get(path, &["--request", method]);
        assert!(refused.starts_with("HTTP/1.1 405"), "{method} {path}: {refused}");
    }
    assert!(get("/", &["--head"]).starts_with("HTTP/1.1 200"));

    let from = "X-Forwarded-For: 203.0.113.9";
    get("/", &["--interface", proxy, "--header", from, "--user-agent", "through-the-proxy"]);
    let log = cell.log();
    let line = log.lines().find(|line| line.contains("through-the-proxy")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.starts_with("203.0.113.9 "), "{line}");
    assert!(!log.contains("/healthz"), "{log}");
    cell.is_confined();
    cell.stop();
}
