//! What is known of well-known images: whether they keep state, as whom they run, how they read secrets from files,
//! where they answer HTTP. Sources: each image's page on Docker Hub or its vendor's documentation.
//!
//! It is for guesses that are said aloud; whatever is not in here is treated as an application.

/// How an image reads a variable's value from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FromFile {
    /// Not at all.
    Never,
    /// These variables, with `_FILE` behind their names.
    Named(&'static [&'static str]),
    /// Every variable, with this behind its name.
    Every(&'static str),
    /// Every variable whose name begins so, with this behind its name.
    Beginning(&'static str, &'static str),
}

/// What is known of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// The repository without host, or its last part.
    names: &'static [&'static str],
    /// It keeps data that a release must not replace.
    pub(crate) state: bool,
    /// `UID:GID` of the user that it runs as, or changes to.
    pub(crate) user: Option<&'static str>,
    /// The same for tags with `alpine` in them, where it differs.
    pub(crate) alpine: Option<&'static str>,
    pub(crate) from_file: FromFile,
    /// The port that speaks HTTP, and a path that answers 200 without a login.
    pub(crate) http: Option<(u16, &'static str)>,
    /// It brings a process manager that must be the first process.
    pub(crate) own_init: bool,
    /// How much memory it needs at the least, where that is more than the bundle's default.
    pub(crate) memory: Option<&'static str>,
    /// Why it is of no use behind the bundle's own proxy and firewall.
    pub(crate) needless: Option<&'static str>,
}

const APP: Known = Known {
    names: &[],
    state: false,
    user: None,
    alpine: None,
    from_file: FromFile::Never,
    http: None,
    own_init: false,
    memory: None,
    needless: None,
};
const STATE: Known = Known { state: true, ..APP };

const DOOR: &str = "the bundle has its own door: HAProxy on the droplet, with `[routes]` and certificates";
const SOCKET: &str = "it works through Docker's socket, and who holds that owns the machine";
const UPDATES: &str = "images change with a release only, and the old ones stay for going back";

const POSTGRES: &[&str] = &["POSTGRES_PASSWORD", "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_INITDB_ARGS"];
const MYSQL: &[&str] = &[
    "MYSQL_ROOT_PASSWORD",
    "MYSQL_PASSWORD",
    "MYSQL_USER",
    "MYSQL_DATABASE",
    "MARIADB_ROOT_PASSWORD",
    "MARIADB_PASSWORD",
    "MARIADB_USER",
    "MARIADB_DATABASE",
];
const MONGO: &[&str] = &["MONGO_INITDB_ROOT_PASSWORD", "MONGO_INITDB_ROOT_USERNAME"];
const WORDPRESS: &[&str] = &[
    "WORDPRESS_DB_PASSWORD",
    "WORDPRESS_DB_USER",
    "WORDPRESS_AUTH_KEY",
    "WORDPRESS_SECURE_AUTH_KEY",
    "WORDPRESS_LOGGED_IN_KEY",
    "WORDPRESS_NONCE_KEY",
    "WORDPRESS_AUTH_SALT",
    "WORDPRESS_SECURE_AUTH_SALT",
    "WORDPRESS_LOGGED_IN_SALT",
    "WORDPRESS_NONCE_SALT",
];
const NEXTCLOUD: &[&str] = &[
    "POSTGRES_PASSWORD",
    "POSTGRES_USER",
    "MYSQL_PASSWORD",
    "MYSQL_USER",
    "NEXTCLOUD_ADMIN_PASSWORD",
    "REDIS_HOST_PASSWORD",
];

const IMAGES: &[Known] = &[
    Known {
        names: &[
            "postgres",
            "postgis/postgis",
            "timescale/timescaledb",
            "pgvector/pgvector",
            "timescaledb",
            "pgvector",
        ],
        user: Some("999:999"),
        alpine: Some("70:70"),
        from_file: FromFile::Named(POSTGRES),
        ..STATE
    },
    Known {
        names: &["mysql", "mariadb", "percona"],
        user: Some("999:999"),
        from_file: FromFile::Named(MYSQL),
        ..STATE
    },
    Known { names: &["mongo"], user: Some("999:999"), from_file: FromFile::Named(MONGO), ..STATE },
    Known {
        names: &["redis", "valkey/valkey", "valkey"],
        user: Some("999:999"),
        alpine: Some("999:1000"),
        ..STATE
    },
    Known { names: &["keydb", "dragonfly", "memcached", "redis-stack", "redis-stack-server"], ..STATE },
    Known { names: &["rabbitmq"], user: Some("999:999"), alpine: Some("100:101"), ..STATE },
    Known {
        names: &["minio/minio"],
        from_file: FromFile::Named(&["MINIO_ROOT_PASSWORD", "MINIO_ROOT_USER"]),
        user: Some("0:0"),
        ..STATE
    },
    Known {
        names: &[
            "bitnami/postgresql",
            "bitnami/mysql",
            "bitnami/mariadb",
            "bitnami/redis",
            "bitnami/mongodb",
            "bitnami/rabbitmq",
            "bitnamilegacy/postgresql",
            "bitnamilegacy/redis",
        ],
        user: Some("1001:0"),
        from_file: FromFile::Every("_FILE"),
        ..STATE
    },
    Known {
        names: &[
            "clickhouse/clickhouse-server",
            "clickhouse-server",
            "elasticsearch/elasticsearch",
            "elasticsearch",
            "opensearchproject/opensearch",
            "opensearch",
            "neo4j",
            "cassandra",
            "scylladb/scylla",
            "kafka",
            "cp-kafka",
            "solr",
            "mssql/server",
            "milvus",
            "redpanda",
            "pulsar",
            "arangodb",
        ],
        memory: Some("2g"),
        ..STATE
    },
    Known {
        names: &[
            "meilisearch",
            "typesense/typesense",
            "qdrant/qdrant",
            "qdrant",
            "weaviate",
            "influxdb",
            "couchdb",
            "etcd",
            "zookeeper",
            "cp-zookeeper",
            "nats",
            "eclipse-mosquitto",
            "cockroach",
            "surrealdb",
            "questdb",
            "rethinkdb",
            "firebird",
            "manticoresearch/manticore",
            "chromadb/chroma",
            "victoria-metrics",
            "victoriametrics/victoria-metrics",
            "beanstalkd",
            "nsq",
            "azure-sql-edge",
        ],
        ..STATE
    },
    Known {
        names: &["wordpress"],
        user: Some("0:0"),
        from_file: FromFile::Named(WORDPRESS),
        http: Some((80, "/wp-includes/images/blank.gif")),
        ..APP
    },
    Known {
        names: &["nextcloud"],
        user: Some("0:0"),
        from_file: FromFile::Named(NEXTCLOUD),
        http: Some((80, "/status.php")),
        ..APP
    },
    Known { names: &["ghost"], http: Some((2368, "/ghost/api/admin/site/")), ..APP },
    Known {
        names: &["grafana/grafana", "grafana/grafana-oss", "grafana/grafana-enterprise"],
        user: Some("472:0"),
        from_file: FromFile::Beginning("GF_", "__FILE"),
        http: Some((3000, "/api/health")),
        ..APP
    },
    Known {
        names: &["gitea/gitea", "gitea"],
        user: Some("0:0"),
        from_file: FromFile::Beginning("GITEA__", "__FILE"),
        http: Some((3000, "/api/healthz")),
        own_init: true,
        ..APP
    },
    Known {
        names: &["forgejo/forgejo", "forgejo"],
        user: Some("0:0"),
        from_file: FromFile::Beginning("FORGEJO__", "__FILE"),
        http: Some((3000, "/api/healthz")),
        own_init: true,
        ..APP
    },
    Known {
        names: &["n8nio/n8n", "n8n"],
        user: Some("1000:1000"),
        from_file: FromFile::Every("_FILE"),
        http: Some((5678, "/healthz")),
        ..APP
    },
    Known {
        names: &["vaultwarden/server"],
        user: Some("0:0"),
        from_file: FromFile::Every("_FILE"),
        http: Some((80, "/alive")),
        ..APP
    },
    Known {
        names: &["metabase/metabase"],
        from_file: FromFile::Never,
        http: Some((3000, "/api/health")),
        memory: Some("2g"),
        ..APP
    },
    Known {
        names: &["keycloak/keycloak", "keycloak"],
        http: Some((8080, "/health/ready")),
        memory: Some("1g"),
        ..APP
    },
    Known { names: &["directus/directus"], http: Some((8055, "/server/ping")), ..APP },
    Known { names: &["umami-software/umami", "umami"], http: Some((3000, "/api/heartbeat")), ..APP },
    Known {
        names: &["plausible/community-edition", "plausible/analytics"],
        http: Some((8000, "/api/health")),
        memory: Some("1g"),
        ..APP
    },
    Known {
        names: &[
            "mattermost/mattermost-team-edition",
            "mattermost/mattermost-enterprise-edition",
            "mattermost-team-edition",
        ],
        http: Some((8065, "/api/v4/system/ping")),
        ..APP
    },
    Known { names: &["matrixdotorg/synapse", "element-hq/synapse"], http: Some((8008, "/health")), ..APP },
    Known { names: &["prom/prometheus"], http: Some((9090, "/-/ready")), user: Some("65534:65534"), ..APP },
    Known { names: &["prom/alertmanager"], http: Some((9093, "/-/ready")), ..APP },
    Known { names: &["grafana/loki"], http: Some((3100, "/ready")), ..APP },
    Known { names: &["louislam/uptime-kuma"], http: Some((3001, "/")), ..APP },
    Known { names: &["outlinewiki/outline"], http: Some((3000, "/_health")), ..APP },
    Known {
        names: &["nginx", "nginxinc/nginx-unprivileged", "httpd", "caddy"],
        http: Some((80, "/")),
        ..APP
    },
    Known {
        names: &[
            "traefik",
            "jwilder/nginx-proxy",
            "nginxproxy/nginx-proxy",
            "nginxproxy/acme-companion",
            "jwilder/docker-gen",
            "jrcs/letsencrypt-nginx-proxy-companion",
            "nginx-proxy",
            "caddy-docker-proxy",
            "lucaslorentz/caddy-docker-proxy",
            "swag",
            "certbot/certbot",
            "jc21/nginx-proxy-manager",
        ],
        needless: Some(DOOR),
        ..APP
    },
    Known {
        names: &["containrrr/watchtower", "watchtower", "pyouroboros/ouroboros", "diun"],
        needless: Some(UPDATES),
        ..APP
    },
    Known {
        names: &[
            "portainer/portainer-ce",
            "portainer/portainer",
            "portainer/agent",
            "willfarrell/autoheal",
            "mcuadros/ofelia",
            "tecnativa/docker-socket-proxy",
            "docker-socket-proxy",
            "amir20/dozzle",
            "dockge",
        ],
        needless: Some(SOCKET),
        ..APP
    },
];

/// Whether the image is one of LinuxServer.io, whose s6 must be the first process.
fn has_s6(repository: &str) -> bool {
    repository.starts_with("linuxserver/") || repository.starts_with("lscr.io/")
}

/// What is known of an image's name, as a Compose file spells it.
pub(crate) fn known(image: &str) -> Known {
    let name = image.split('@').next().unwrap_or_default();
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => path,
        _ => name,
    };
    let path = path.strip_prefix("library/").unwrap_or(path);
    let last = path.rsplit('/').next().unwrap_or(path);
    // The whole path first: `bitnami/redis` is not `redis`. The last part counts for copies in other registries, but
    // `supabase/postgres` and `postgres-exporter` are not taken for what they are not.
    let by = |name: &str| IMAGES.iter().find(|known| known.names.contains(&name));
    let mut known = by(path).or_else(|| by(last)).copied().unwrap_or(APP);
    known.own_init |= has_s6(name) || has_s6(path);
    known
}

impl Known {
    /// The name of the variable that takes the path of a file instead.
    pub(crate) fn file_variable(&self, variable: &str) -> Option<String> {
        let suffix = match self.from_file {
            FromFile::Named(names) if names.contains(&variable) => "_FILE",
            FromFile::Every(suffix) => suffix,
            FromFile::Beginning(lead, suffix) if variable.starts_with(lead) => suffix,
            _ => return None,
        };
        Some(format!("{variable}{suffix}"))
    }

    /// The user it runs as under this tag.
    pub(crate) fn user_of(&self, image: &str) -> Option<&'static str> {
        if image.contains("alpine") { self.alpine.or(self.user) } else { self.user }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_its_repository() {
        assert!(known("postgres:16-alpine").state);
        assert_eq!(known("postgres:16-alpine").user_of("postgres:16-alpine"), Some("70:70"));
        assert_eq!(known("docker.io/library/postgres").user_of("x"), Some("999:999"));
        assert_eq!(known("bitnami/redis:7").user_of("x"), Some("1001:0"));
        assert_eq!(known("localhost:5000/x/redis@sha256:00").user_of("x"), Some("999:999"));
        assert!(!known("quay.io/prometheuscommunity/postgres-exporter").state);
        assert!(known("lscr.io/linuxserver/heimdall").own_init);
        assert!(known("traefik:v3.1").needless.is_some());
        assert_eq!(known("grafana/grafana").file_variable("GF_X").unwrap(), "GF_X__FILE");
        assert_eq!(known("postgres").file_variable("PGDATA"), None);
    }
}
