//! Looks names up as the system is configured to.
//!
//! In: `/etc/hosts`, `/etc/resolv.conf`, name servers. Out: a name's IPv4 and IPv6 addresses and how long they hold.
//! Always holds: the hosts file comes before DNS and ends the search (nsswitch's `files dns`); both files are read
//! again when they have changed; no answer is cached here, so that every question sees the present.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, ResolverBuilder, TokioResolver};
use parking_lot::Mutex;

use super::refresh::{Answer, Source, TTL_MAX};

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The system's own way to look names up, or a given set of name servers.
#[derive(Clone, Default)]
pub struct SystemSource {
    loaded: Arc<Mutex<Option<Loaded>>>,
    fixed: Option<ResolverConfig>,
}

#[derive(Clone)]
struct Loaded {
    stamp: Stamp,
    hosts: Arc<Hosts>,
    resolver: Result<TokioResolver, Arc<str>>,
}

/// When the two files last changed.
type Stamp = [Option<SystemTime>; 2];

impl SystemSource {
    /// Asks the name servers of `config` instead of those of `/etc/resolv.conf`; the hosts file still comes first.
    #[must_use]
    pub fn with_name_servers(config: ResolverConfig) -> Self {
        Self { loaded: Arc::default(), fixed: Some(config) }
    }

    fn current(&self) -> Loaded {
        let changed = |path: &str| fs::metadata(Path::new(path)).and_then(|m| m.modified()).ok();
        let stamp = [changed(HOSTS), changed(RESOLV_CONF)];
        let mut loaded = self.loaded.lock();
        match &*loaded {
            Some(current) if current.stamp == stamp => current.clone(),
            _ => {
                let fresh = Loaded {
                    stamp,
                    hosts: Arc::new(Hosts::from_system().unwrap_or_default()),
                    resolver: self.resolver(),
                };
                *loaded = Some(fresh.clone());
                fresh
            }
        }
    }

    fn resolver(&self) -> Result<TokioResolver, Arc<str>> {
        let builder: ResolverBuilder<TokioRuntimeProvider> = match &self.fixed {
            Some(config) => {
                TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio()
                .map_err(|error| format!("cannot use {RESOLV_CONF}: {error}"))?,
        };
        let mut builder = builder;
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        builder.build().map_err(|error| format!("cannot resolve names: {error}").into())
    }
}

impl Source for SystemSource {
    async fn look_up(&self, name: &str) -> Result<Answer, String> {
        let loaded = self.current();
        if let Some(answer) = from_hosts(&loaded.hosts, name) {
            return Ok(answer);
        }
        let resolver = loaded.resolver.map_err(|error| error.to_string())?;
        let lookup = resolver
            .lookup_ip(name)
            .await
            .map_err(|error| format!("cannot resolve `{name}`: {error}"))?;
        let ttl_s = lookup.as_lookup().answers().iter().map(|record| record.ttl).min();
        Ok(Answer {
            addresses: lookup.iter().collect(),
            ttl: Duration::from_secs(u64::from(ttl_s.unwrap_or(0))),
        })
    }
}

fn from_hosts(hosts: &Hosts, name: &str) -> Option<Answer> {
    let name = Name::from_utf8(name).ok()?;
    let addresses: Vec<IpAddr> = [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)))
        .flat_map(|lookup| {
            lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>()
        })
        .collect();
    (!addresses.is_empty()).then_some(Answer { addresses, ttl: TTL_MAX })
}
