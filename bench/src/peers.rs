//! The servers that are compared: an nginx origin, nginx as a plain proxy or refusing, and PayFence with everything on.
//!
//! In: a working folder, ports, cores. Out: running servers and the request each is asked.
//! Always holds: peers and subject face the same origin, with keep-alive without bound on both sides and no access log.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair};

use crate::process::{Server, find_program, free_port};

/// Bodies served by the origin, as `/paid/NAME`: name and size in bytes.
pub const BODIES: [(&str, usize); 3] = [("100B", 100), ("10KiB", 10 << 10), ("1MiB", 1 << 20)];

/// The name in the certificate of origins.
pub const ORIGIN_NAME: &str = "localhost";
/// The host both are asked for; to PayFence a custom host of its site.
pub const HOST: &str = "bench.test";
/// A token of a subscription that never runs out here.
pub const TOKEN_RICH: &str = "pf_test_BenchmarkTokenWithPlentyOfUnits03r0Vuf";
/// A token of a subscription whose few units are gone after the first requests.
pub const TOKEN_POOR: &str = "pf_test_BenchmarkTokenWithFewUnitsLeft002MkKWi";

/// A server, and where to find it.
pub struct Peer {
    pub server: Server,
    pub address: String,
    /// The same in the clear, where `address` is over TLS.
    pub plain_address: String,
}

/// Folders, programs and cores of one comparison.
pub struct Bench {
    folder: tempfile::TempDir,
    nginx: PathBuf,
    payfence: PathBuf,
    core_subject: usize,
    core_origin: usize,
}

/// How PayFence is reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Front {
    Plain,
    Tls,
}

/// How a node of PayFence is run.
pub struct Node<'a> {
    /// Its policy, in which HOST, RICH and POOR stand for the host and the tokens.
    pub policy: String,
    /// Its cores, one for each shard.
    pub cores: Vec<usize>,
    pub front: Front,
    /// More flags.
    pub flags: &'a [&'a str],
}

/// Where a node is reached.
pub struct Addresses {
    pub address: String,
    /// The same in the clear, where `address` is over TLS.
    pub plain_address: String,
    pub admin: String,
}

impl Addresses {
    /// Ones that nobody uses now.
    pub fn free() -> Result<Self> {
        let free = || Ok::<_, anyhow::Error>(format!("127.0.0.1:{}", free_port()?));
        Ok(Self { address: free()?, plain_address: free()?, admin: free()? })
    }
}

impl Bench {
    /// Prepares the origin's files; fails where a program is missing.
    pub fn new(payfence: PathBuf, core_subject: usize, core_origin: usize) -> Result<Self> {
        let nginx = find_program("nginx", "nginx")?;
        let folder = tempfile::tempdir().context("cannot make a working folder")?;
        let files = folder.path().join("files/paid");
        fs::create_dir_all(&files)?;
        for (name, bytes) in BODIES {
            fs::write(files.join(name), vec![b'x'; bytes])?;
        }
        // P-256, as most certificates are today.
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([HOST.into(), ORIGIN_NAME.into()])?;
        let certificate = certificate.self_signed(&key)?;
        fs::write(folder.path().join("tls.crt"), certificate.pem())?;
        fs::write(folder.path().join("tls.key"), key.serialize_pem())?;
        Ok(Self { folder, nginx, payfence, core_subject, core_origin })
    }

    /// The origin: nginx serving files, and the small one from memory, as an API's answers are: opening, corking and sending a
    /// file costs more than a proxy does, so that latencies were those of a wait for the origin.
    pub fn origin(&self) -> Result<Peer> {
        self.nginx("origin", self.core_origin, "", &self.answers())
    }

    /// The same over TLS.
    pub fn origin_tls(&self) -> Result<Peer> {
        let server = self.answers() + &self.certificate();
        self.nginx_on("origin-tls", self.core_origin, "", &server, "ssl")
    }

    fn answers(&self) -> String {
        let root = self.folder.path().join("files");
        let (name, bytes) = BODIES[0];
        format!(
            "root {}; open_file_cache max=100 inactive=1h; sendfile on; tcp_nopush on; location = /paid/{name} {{ \
             add_header Last-Modified \"Sat, 28 Nov 2026 16:00:00 GMT\"; add_header ETag '\"69c1f0a2-64\"'; \
             add_header Accept-Ranges bytes; return 200 {}; }}",
            root.display(),
            "x".repeat(bytes)
        )
    }

    /// The certificate in PEM, which is its own authority.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.path().join("tls.crt")
    }

    fn certificate(&self) -> String {
        let folder = self.folder.path().display();
        format!(
            "ssl_certificate {folder}/tls.crt; ssl_certificate_key {folder}/tls.key; \
             ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:SSL:10m;"
        )
    }

    /// nginx as a plain proxy that terminates TLS.
    pub fn nginx_tls(&self, origin: &str) -> Result<Peer> {
        let server = PROXY_PASS.replace("SCHEME", "http") + "}" + &self.certificate();
        self.nginx_on("nginx-tls", self.core_subject, &upstream(origin), &server, "ssl")
    }

    /// nginx as a plain proxy to an origin over TLS, which it verifies.
    pub fn nginx_to_tls(&self, origin: &str) -> Result<Peer> {
        let verify = format!(
            "proxy_ssl_verify on; proxy_ssl_trusted_certificate {}; proxy_ssl_name {ORIGIN_NAME}; \
             proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.2 TLSv1.3; }}",
            self.certificate_file().display()
        );
        let server = PROXY_PASS.replace("SCHEME", "https") + &verify;
        self.nginx("nginx-to-tls", self.core_subject, &upstream(origin), &server)
    }

    /// nginx doing nothing but `proxy_pass`, with keep-alive to the origin.
    pub fn nginx_proxy(&self, origin: &str) -> Result<Peer> {
        let server = PROXY_PASS.replace("SCHEME", "http") + "}";
        self.nginx("nginx-proxy", self.core_subject, &upstream(origin), &server)
    }

    /// nginx refusing everything.
    pub fn nginx_refusing(&self) -> Result<Peer> {
        self.nginx("nginx-429", self.core_subject, "", "location / { return 429; }")
    }

    fn nginx(&self, name: &str, core: usize, http: &str, server: &str) -> Result<Peer> {
        self.nginx_on(name, core, http, server, "")
    }

    fn nginx_on(
        &self,
        name: &str,
        core: usize,
        http: &str,
        server: &str,
        listen: &str,
    ) -> Result<Peer> {
        let home = self.folder.path().join(name);
        fs::create_dir_all(&home)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let plain_address = format!("127.0.0.1:{}", free_port()?);
        let text = NGINX_CONF
            .replace("HOME", &home.display().to_string())
            .replace("ADDRESS", &address)
            .replace("PLAIN", &plain_address)
            .replace("LISTEN", listen)
            .replace("HTTP", http)
            .replace("SERVER", server);
        let conf = home.join("nginx.conf");
        fs::write(&conf, text)?;
        let arguments = ["-p", path(&home), "-c", path(&conf), "-e", "stderr"];
        let log = home.join("log");
        let core = core.to_string();
        let mut server = Server::start(name, &core, &self.nginx, &arguments, &log)?;
        server.wait_ready(&address, &log)?;
        Ok(Peer { server, address, plain_address })
    }

    /// PayFence on one shard, with token, quota and rate limit on; its admin listener's address besides.
    pub fn payfence(&self, origin: &str) -> Result<(Peer, String)> {
        self.payfence_before(&format!("http://{origin}"), Front::Plain, &[])
    }

    /// The same, with more flags.
    pub fn payfence_told(&self, origin: &str, flags: &[&str]) -> Result<Peer> {
        Ok(self.payfence_before(&format!("http://{origin}"), Front::Plain, flags)?.0)
    }

    /// The node's data directory.
    pub fn payfence_home(&self) -> PathBuf {
        self.folder.path().join("payfence")
    }

    /// The same to an origin over TLS.
    pub fn payfence_to_tls(&self, origin: &str) -> Result<Peer> {
        let port = origin.rsplit(':').next().unwrap_or_default();
        let authority = self.certificate_file();
        let url = format!("https://{ORIGIN_NAME}:{port}\"\norigin_ca = \"{}", authority.display());
        Ok(self.payfence_before(&url, Front::Plain, &[])?.0)
    }

    /// The same, terminating TLS; its admin listener's address besides.
    pub fn payfence_tls(&self, origin: &str) -> Result<(Peer, String)> {
        self.payfence_before(&format!("http://{origin}"), Front::Tls, &[])
    }

    /// The standard node in front of an origin.
    fn payfence_before(
        &self,
        origin: &str,
        front: Front,
        flags: &[&str],
    ) -> Result<(Peer, String)> {
        let policy = SITE.replace("ORIGIN", origin) + PLANS;
        let cores = vec![self.core_subject];
        let addresses = Addresses::free()?;
        let peer = self.start_node(&Node { policy, cores, front, flags }, &addresses)?;
        Ok((peer, addresses.admin))
    }

    /// Starts a node with its data directory as it is: anew, or where an earlier one there ended.
    pub fn start_node(&self, node: &Node<'_>, at: &Addresses) -> Result<Peer> {
        anyhow::ensure!(
            self.payfence.is_file(),
            "{} is missing. Run: cargo build --release -p payfence",
            self.payfence.display()
        );
        let home = self.payfence_home();
        fs::create_dir_all(&home)?;
        let policy = home.join("policy.toml");
        let text = node.policy.replace("HOST", HOST);
        fs::write(&policy, text.replace("RICH", TOKEN_RICH).replace("POOR", TOKEN_POOR))?;
        let cores: Vec<String> = node.cores.iter().map(ToString::to_string).collect();
        let (shards, cores) = (cores.len().to_string(), cores.join(","));
        let (certificate, key) = (self.certificate_file(), self.folder.path().join("tls.key"));
        let Addresses { address, plain_address, admin } = at;
        #[rustfmt::skip]
        let mut arguments = vec![
            "dataplane", "--policy", path(&policy), "--admin", admin,
            "--data-dir", path(&home), "--shards", &shards, "--cpus", &cores,
        ];
        match node.front {
            Front::Plain => arguments.extend(["--listen", address]),
            #[rustfmt::skip]
            Front::Tls => arguments.extend([
                "--listen", plain_address, "--tls-listen", address, "--tls-cert", path(&certificate), "--tls-key", path(&key),
            ]),
        }
        arguments.extend(node.flags);
        let log = home.join("log");
        let mut server = Server::start("payfence", &cores, &self.payfence, &arguments, &log)?;
        server.wait_ready(address, &log)?;
        Ok(Peer { server, address: address.clone(), plain_address: plain_address.clone() })
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's path is UTF-8")
}

/// Keep-alive connections to the origin.
fn upstream(origin: &str) -> String {
    format!("upstream origin {{ server {origin}; keepalive 128; keepalive_requests 1000000000; }}")
}

/// Without its closing brace.
const PROXY_PASS: &str = "location / { proxy_pass SCHEME://origin; proxy_http_version 1.1; \
                          proxy_set_header Connection \"\"; ";

const NGINX_CONF: &str = r#"
user root;
worker_processes 1;
daemon off;
pid HOME/pid;
error_log stderr crit;
worker_rlimit_nofile 40000;
events { worker_connections 20000; }
http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path HOME/body;
    proxy_temp_path HOME/proxy;
    fastcgi_temp_path HOME/fastcgi;
    uwsgi_temp_path HOME/uwsgi;
    scgi_temp_path HOME/scgi;
    HTTP
    server {
        listen ADDRESS LISTEN backlog=4096;
        listen PLAIN backlog=4096;
        SERVER
    }
}
"#;

/// A site in front of ORIGIN.
pub const SITE: &str = r#"
[[sites]]
slug = "bench"
name = "Bench"
origin = "ORIGIN"
hosts = ["HOST"]

[[sites.resources]]
pattern = "/paid/*"
"#;

const PLANS: &str = r#"
[[sites.plans]]
id = "rich"
quota = { requests = 1000000000, per = "month" }
rate_limit = { requests = 10000000, per = "second", burst = 10000000 }

[[sites.plans]]
id = "poor"
quota = { requests = 1, per = "year" }
rate_limit = { requests = 10000000, per = "second", burst = 10000000 }

[[sites.subscriptions]]
id = "sub_rich"
plan = "rich"
customer = "rich"
status = "active"
tokens = [ { id = "tok_rich", value = "RICH" } ]

[[sites.subscriptions]]
id = "sub_poor"
plan = "poor"
customer = "poor"
status = "active"
tokens = [ { id = "tok_poor", value = "POOR" } ]
"#;
