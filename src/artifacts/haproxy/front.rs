//! The two doors: 80, which only redirects and lets the certificate authority's question through, and 443.

use std::cmp::Reverse;

use ipnet::IpNet;

use super::super::format::Refused;
use super::super::format::haproxy::{Config, Word, format, raw, text};
use super::{MinTls, Proxy, backend, private_health_path};
use crate::model::RouteName;
use crate::spec::{Route, Spec};

/// A name with or without port, in any case, with or without the dot at its end, is the same name.
const HOST: &str = "http-request set-var(txn.host) req.hdr(host),host_only,lower,rtrim(.)";

const HSTS: &str = "http-after-response set-header Strict-Transport-Security \"max-age=31536000\"";

/// What two readers could understand in two ways is refused, and what only we may say is taken out (RFC 9112, section
/// 11.2; the rest of it HAProxy refuses or rewrites by itself).
const HYGIENE: &[&str] = &[
    "http-request deny deny_status 400 if { req.hdr_cnt(host) gt 1 } or { req.hdr_cnt(content-length) gt 1 }",
    "http-request deny deny_status 400 if { req.hdr_cnt(transfer-encoding) gt 1 }",
    // HTTP/1.0 knows no chunks (RFC 9112, section 6.1).
    "http-request deny deny_status 400 if { req.ver 1.0 } { req.hdr_cnt(transfer-encoding) gt 0 }",
    // HAProxy passes NUL on (RFC 9110, section 5.5). Written out, a header has to fit into a buffer (`tune.bufsize`): of
    // what is too long for that nobody has seen the end.
    "http-request return status 431 if { req.hdrs,url_enc,length ge 16380 }",
    "http-request deny deny_status 400 if { req.hdrs,url_enc -m sub %00 }",
    // To a web socket, and not to HTTP/2 in the clear, in which nobody would see the requests.
    "http-request del-header Upgrade unless { req.fhdr(upgrade) -m str -i websocket }",
    "http-request del-header HTTP2-Settings",
    "http-request deny deny_status 405 if { method TRACE CONNECT }",
    "http-request del-header Proxy",
    "http-request del-header Forwarded",
    "http-request del-header X-Forwarded- -m beg",
    "http-request del-header X-Real-IP",
    "http-request set-header X-Forwarded-For %[src]",
    "http-request set-header X-Forwarded-Proto https",
    "http-after-response set-header X-Content-Type-Options nosniff",
    "http-response del-header Server",
    "http-response del-header X-Powered-By",
];

/// Whether there is a request for one of our names that no route gets.
pub(super) fn leads_nowhere(spec: &Spec) -> bool {
    let rooted = |host: &str| spec.routes.values().any(|route| route.host == host && route.path == "/");
    !spec.hosts().into_iter().all(rooted)
}

/// The routes, host by host, the longest path first.
fn in_order(spec: &Spec) -> Vec<(&RouteName, &Route)> {
    let mut routes: Vec<_> = spec.routes.iter().collect();
    routes.sort_by_key(|(_, route)| (&route.host, Reverse(route.path.len()), &route.path));
    routes
}

/// `{ var(txn.host) -m str … }`
fn is_host(host: &str) -> [Word; 3] {
    [raw("{ var(txn.host) -m str"), text(host), raw("}")]
}

impl Proxy {
    /// Nothing is served in the clear. RFC 9110, section 15.4.9: with 308 a POST stays a POST.
    pub(super) fn clear(&self, config: &mut Config, spec: &Spec, acme: bool) -> Result<(), Refused> {
        config.section(&[raw("frontend http")])?.fixed(&["bind :80", "bind [::]:80 v6only"]);
        self.expect_proxy(config)?;
        config.own(HOST);
        if acme {
            // RFC 8555, section 8.3.
            config.own("acl acme path_beg /.well-known/acme-challenge/");
        }
        let unless = if acme { "!acme" } else { "" };
        for host in spec.hosts().into_iter().filter(|host| *host != spec.domain) {
            let prefix = format(&format!("https://{host}"));
            let mut line = vec![raw("http-request redirect prefix"), prefix, raw("code 308 if")];
            line.extend(acme.then(|| raw(unless)));
            line.extend(is_host(host));
            config.line(&line)?;
        }
        let prefix = format(&format!("https://{}", spec.domain));
        let mut line = vec![raw("http-request redirect prefix"), prefix, raw("code 308")];
        line.extend(acme.then(|| raw("if !acme")));
        config.line(&line)?;
        if acme {
            config.line(&[raw("use_backend"), text(backend::ACME)])?;
        }
        Ok(())
    }

    /// What the public meets.
    pub(super) fn public(&self, config: &mut Config, spec: &Spec, list: &str) -> Result<(), Refused> {
        config.section(&[raw("frontend https")])?;
        for bind in ["bind :443 ssl crt-list", "bind [::]:443 v6only ssl crt-list"] {
            config.line(&[raw(bind), text(list), raw("strict-sni alpn h2,http/1.1")])?;
        }
        self.expect_proxy(config)?;
        config.own(HSTS);
        self.limit(config)?;
        config.own(HOST);
        Self::private(config, spec)?;
        self.names(config, spec)?;
        config.fixed(HYGIENE);
        // What has not come within this time is answered with 408; web sockets and streams have no body here.
        config.line(&[
            raw("http-request wait-for-body time"),
            text(&self.timeouts.body),
            raw("if { method POST PUT PATCH DELETE }"),
        ])?;
        Self::use_backends(config, spec)
    }

    /// PROXY protocol from the balancer, before which nothing else is read (HAProxy's `doc/proxy-protocol.txt`). It may
    /// say who the client is, but nobody is on this machine who is not.
    fn expect_proxy(&self, config: &mut Config) -> Result<(), Refused> {
        let Some(net) = &self.balancer else { return Ok(()) };
        let from = [raw("tcp-request connection expect-proxy layer4 if { src"), text(net), raw("}")];
        config.line(&from)?.own("tcp-request session reject if { fc_rcvd_proxy } { src 127.0.0.0/8 ::1 }");
        Ok(())
    }

    /// Exactly so many requests in any minute. The counter stands in the frontend, so a switch does not reset it.
    fn limit(&self, config: &mut Config) -> Result<(), Refused> {
        config.fixed(&[
            "stick-table type ipv6 size 100k expire 2m store http_req_rate(60s)",
            "acl exempt src 127.0.0.0/8 ::1",
        ]);
        for net in &self.exempt {
            config.line(&[raw("acl exempt src"), text(net)])?;
        }
        let limit = text(&self.requests_per_minute);
        config
            .own("http-request track-sc0 src,ipmask(32,64) unless exempt")
            .line(&[
                raw("http-request deny deny_status 429 hdr Retry-After 60 if !exempt { sc_http_req_rate(0) gt"),
                limit,
                raw("}"),
            ])
            .map(drop)
    }

    /// Who asks on the machine itself reaches each route's health; for everybody else, and below any other name, the
    /// path does not exist.
    fn private(config: &mut Config, spec: &Spec) -> Result<(), Refused> {
        config.fixed(&["acl here src 127.0.0.0/8 ::1", "acl private path_beg /.bundle/"]);
        for name in spec.routes.keys() {
            config.line(&[raw("acl health path"), text(&private_health_path(name))])?;
        }
        config.own("http-request return status 404 if private !here || private !health");
        Ok(())
    }

    /// A connection that was made for one name may be asked for another (RFC 9113, section 9.1.1): for one that is not
    /// ours, or that must have a better TLS than this connection's, the answer is 421 (RFC 9110, section 15.5.20).
    fn names(&self, config: &mut Config, spec: &Spec) -> Result<(), Refused> {
        let hosts = spec.hosts();
        for host in &hosts {
            config.line(&[raw("acl served var(txn.host) -m str"), text(host)])?;
        }
        config.own("http-request deny deny_status 421 unless served or private");
        let strict = |host: &str| self.floor(host) == MinTls::V13;
        if hosts.iter().all(|host| strict(host)) {
            return Ok(());
        }
        for host in hosts.into_iter().filter(|host| strict(host)) {
            config.line(&[
                raw("http-request deny deny_status 421 if !{ ssl_fc_protocol TLSv1.3 } { var(txn.host) -m str"),
                text(host),
                raw("}"),
            ])?;
        }
        Ok(())
    }

    /// Sends each private path, and then each request, to its backend.
    fn use_backends(config: &mut Config, spec: &Spec) -> Result<(), Refused> {
        for name in spec.routes.keys() {
            let path = text(&private_health_path(name));
            config.line(&[raw("use_backend"), text(name), raw("if { path"), path, raw("}")])?;
        }
        for (name, route) in in_order(spec) {
            let [is, host, end] = is_host(&route.host);
            let to = |more: &[Word]| {
                let line = [raw("use_backend"), text(name), raw("if"), is.clone(), host.clone(), end.clone()];
                line.into_iter().chain(more.iter().cloned()).collect::<Vec<_>>()
            };
            if route.path == "/" {
                config.line(&to(&[]))?;
            } else {
                // Whole segments: `/api` and what is below it, and not `/apikeys`.
                config.line(&to(&[raw("{ path -m str"), text(&route.path), raw("}")]))?.line(&to(&[
                    raw("{ path -m beg"),
                    text(&format!("{}/", route.path)),
                    raw("}"),
                ]))?;
            }
        }
        if leads_nowhere(spec) {
            config.line(&[raw("default_backend"), text(backend::NOWHERE)])?;
        }
        Ok(())
    }

    /// What a load balancer asks: whether every route has a server that answers.
    pub(super) fn balancer(&self, config: &mut Config, spec: &Spec) -> Result<(), Refused> {
        let (Some(net), Some(port)) = (&self.balancer, self.balancer_health_port) else { return Ok(()) };
        let address = match net {
            IpNet::V4(_) => format!(":{port}"),
            IpNet::V6(_) => format!("[::]:{port}"),
        };
        config
            .section(&[raw("frontend bundle:balancer")])?
            .line(&[raw("bind"), text(&address)])?
            .line(&[raw("tcp-request connection reject if !{ src"), text(net), raw("}")])?
            .own("monitor-uri /health");
        for name in spec.routes.keys() {
            let servers = [raw("monitor fail if { nbsrv("), text(name), raw(") lt 1 }")];
            config.joined(&servers)?;
        }
        config.own("http-request return status 404");
        Ok(())
    }
}
