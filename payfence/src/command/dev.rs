//! `payfence dev [--origin URL] [--tls]`: the whole product on one machine: a control plane on SQLite, a node of it, a policy file to edit
//! and, where no origin is given, a sample API.
//!
//! In: flags, the files of an earlier start. Out: everything running, and requests to try.
//! Always holds: a policy file that the user edited is never overwritten; what is printed works when it is printed; told to stop, the node
//! ends before the control plane, which takes its last words ([decision 16](../../../docs/decisions/0016-dev-is-the-whole-product.md)).

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use dataplane::clock::Clock;
use dataplane::config::OnReady;
use dataplane::offcore::policy_watch::{PolicyFile, Reports};
use dataplane::offcore::reload::WatchThread;
use policy::snapshot::Snapshot;
use rustix::fs::{FlockOperation, flock};
use tokio::runtime::Runtime;

use super::{dataplane_node, load_policy};
use crate::cli::{ControlArgs, DevArgs, NodeArgs, Switch, TlsArgs};
use crate::failure::{Failure, Outcome};
use crate::settings;

mod bank;
mod bring;
mod certificate;
mod files;
mod greeting;
mod plane;
mod sample_api;
mod shop;
mod supervisor;

use bank::Bank;
use bring::{Bringer, TheNode};
use files::Prepared;
use greeting::{Greeting, Paths, Selling, Trial, absolute};
use plane::Plane;
use shop::Shop;
use supervisor::Supervisor;

/// Where TLS is spoken when nothing is said.
const TLS_LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);
/// The policy file when none is named.
const POLICY_FILE: &str = "payfence-dev.toml";
/// Held as long as it runs.
const LOCK_FILE: &str = "dev.lock";

pub fn run(args: DevArgs) -> Outcome {
    let policy = args.policy.clone().unwrap_or_else(|| PathBuf::from(POLICY_FILE));
    let data_dir = settings::beside(&policy).join(settings::DATA_DIR);
    let _lock = lock(&data_dir)?;
    let mut prepared = files::prepare(&policy, args.origin.as_deref(), files::SAMPLE_ADDRESS)?;
    // Whatever is wrong with it is told before anything is started.
    load_policy(&policy)?;
    let tls = tls(&args, &policy)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build();
    let runtime = runtime.map_err(|error| Failure::Failed(error.into()))?;
    let supervisor = Supervisor::start(&runtime)?;
    if let Some(socket) = prepared.sample.take() {
        sample_api::serve(&runtime, socket, Arc::clone(&supervisor))
            .map_err(|error| Failure::failed(format!("cannot start the sample API: {error}")))?;
    }
    let control = plane::address(args.control_listen)?;
    // To the end: the control plane asks it as long as it runs.
    let bank = Arc::new(runtime.block_on(Bank::open(&args.selling, control, &data_dir))?);
    let plane = Plane::start(control, &data_dir, &bank, &supervisor);
    let Some(plane) = runtime.block_on(supervisor.unless_stopped(plane)) else {
        return supervisor.outcome(Ok(()));
    };
    let plane = plane?;
    let whole = Whole {
        args,
        policy,
        data_dir,
        prepared,
        tls,
        bank: Arc::clone(&bank),
        supervisor: Arc::clone(&supervisor),
    };
    let ended = whole.serve(&runtime, &plane);
    plane.stop(&runtime);
    drop(bank);
    supervisor.outcome(ended)
}

/// One at a time in a directory: two would serve each other's customers from one database and one journal.
fn lock(data_dir: &Path) -> Result<File, Failure> {
    let path = data_dir.join(LOCK_FILE);
    let file = files::make_directory(data_dir).and_then(|()| File::create(&path));
    let file = file.map_err(|error| files::broken("write", &path, &error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Failure::failed(format!(
            "another `payfence dev` runs with {}: end it, or give --policy FILE in another directory",
            data_dir.display()
        ))
    })?;
    Ok(file)
}

/// What a node and what it prints are made of.
struct Whole {
    args: DevArgs,
    policy: PathBuf,
    data_dir: PathBuf,
    prepared: Prepared,
    tls: TlsArgs,
    bank: Arc<Bank>,
    supervisor: Arc<Supervisor>,
}

impl Whole {
    /// Brings the policy in, and runs the node until it has drained.
    fn serve(self, runtime: &Runtime, plane: &Plane) -> Outcome {
        let node = Arc::new(TheNode::default());
        let bringer = Arc::new(Bringer {
            rest: Arc::clone(&plane.rest),
            store: plane.store.clone(),
            runtime: runtime.handle().clone(),
            supervisor: Arc::clone(&self.supervisor),
            node: Arc::clone(&node),
            data_dir: self.data_dir.clone(),
        });
        let bring = Arc::clone(&bringer);
        let load = move |path: &Path, bytes: &[u8], _| bring.bring(path, bytes);
        let reports: Arc<dyn Reports> = node.clone();
        let opened = PolicyFile::open(&self.policy, Box::new(load), reports);
        if self.supervisor.is_stopping() {
            return Ok(());
        }
        // By itself the file is well: it was read before. So it is about what there is.
        let (file, snapshot) = opened.map_err(|error| {
            let data_dir = self.data_dir.display();
            Failure::configuration(format!(
                "{error}\n       what was there before is kept in {data_dir}; delete that folder to begin afresh"
            ))
        })?;
        let is_ours = !self.prepared.token.is_empty();
        let open = shop::open(&plane.rest, &self.bank, &self.data_dir, is_ours);
        let shop = match runtime.block_on(self.supervisor.unless_stopped(open)) {
            None => return Ok(()),
            Some(Ok(shop)) => shop,
            Some(Err(error)) => {
                tracing::warn!(%error, "nothing can be sold; all else works");
                Shop::default()
            }
        };
        let greeting = self.greeting(plane, &snapshot, shop);
        let watch: Arc<Mutex<Option<WatchThread>>> = Arc::default();
        let on_ready: OnReady = Box::new({
            let (supervisor, watch) = (Arc::clone(&self.supervisor), Arc::clone(&watch));
            move |ready, state| {
                node.set(state);
                let has_it = supervisor.unless_stopped(bringer.acknowledged());
                if bringer.runtime.block_on(has_it).is_none() {
                    // Told to stop before the node listened to signals by itself.
                    state.set_draining();
                    return;
                }
                greeting.print(ready);
                match file.watch(|_| {}) {
                    Ok(thread) => {
                        supervisor.set_reloader(thread.reloader());
                        *watch.lock().unwrap_or_else(|broken| broken.into_inner()) = Some(thread);
                    }
                    Err(error) => {
                        supervisor.died("the watch of the policy file", &error.to_string())
                    }
                }
            }
        });
        let ended = dataplane_node::serve(settings::config(self.node(plane), Some(on_ready))?);
        // A file that is being brought in is brought in to its end.
        drop(watch.lock().unwrap_or_else(|broken| broken.into_inner()).take());
        ended
    }

    fn greeting(&self, plane: &Plane, snapshot: &Snapshot, shop: Shop) -> Greeting {
        let (prepared, origin) = (&self.prepared, self.prepared.origin.clone());
        Greeting {
            policy: self.policy.display().to_string(),
            origin: if prepared.is_sample { format!("{origin} (a sample API)") } else { origin },
            trial: Trial::new(snapshot, Paths::of(prepared.is_sample), &prepared.token),
            token: prepared.token.clone(),
            certificate: self.tls.tls_cert.as_deref().map(absolute),
            control: plane.address,
            admin_key: absolute(&plane.admin_key),
            selling: Selling {
                pages: self.bank.billing.public_url.clone().unwrap_or_default(),
                stand_in: self.bank.sandbox.as_ref().map(|sandbox| sandbox.url()),
                shop,
                mail: absolute(&plane::mail_directory(&self.data_dir)),
            },
        }
    }

    fn node(self, plane: &Plane) -> NodeArgs {
        // With TLS beside it a node listens in the clear only where it is told to.
        let plain =
            NodeArgs { listen: self.args.listen.into_iter().collect(), ..NodeArgs::default() };
        NodeArgs {
            control: ControlArgs {
                control_url: vec![plane.url.clone()],
                node_token_file: Some(plane.node_token.clone()),
                control_ca: None,
                // Whoever writes the policy runs the node.
                allow_private_origins: Some(Switch::On),
            },
            listen: settings::listen(&plain),
            tls: self.tls,
            admin: self.args.admin,
            data_dir: Some(self.data_dir),
            shards: self.args.shards,
            ..NodeArgs::default()
        }
    }
}

/// What the node is told about TLS: nothing, or an address and a certificate that is there.
fn tls(args: &DevArgs, policy: &Path) -> Result<TlsArgs, Failure> {
    let default = || args.tls.then_some(TLS_LISTEN_DEFAULT);
    let Some(listen) = args.tls_listen.or_else(default) else { return Ok(TlsArgs::default()) };
    let now_s = Clock::start().now().unix_s();
    let files = certificate::prepare(policy, listen.ip(), now_s)?;
    Ok(TlsArgs {
        tls_listen: vec![listen],
        tls_cert: Some(files.certificate),
        tls_key: Some(files.key),
        ..TlsArgs::default()
    })
}
