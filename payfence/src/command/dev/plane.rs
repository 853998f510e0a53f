//! The control plane of `payfence dev`: in this process, on SQLite, with a key for its administrator and one for its node.
//!
//! In: where it listens, the data directory. Out: a control plane that answers; files with both keys.
//! Always holds: keys are in files that only their owner reads, and nowhere else; a key that is still good is kept; where a crash, or the
//! user, lost one, another is made.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use controlplane::init;
use controlplane::server::Server;
use controlplane::storage::{Admission, Store};
use controlplane::world::System;
use link::control::ControlUrl;
use link::wire::NodeToken;
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::bank::Bank;
use super::files;
use super::supervisor::Supervisor;
use crate::cli::{ControlplaneArgs, NotifyArgs, StripeWebhookArgs};
use crate::command::controlplane::failure;
use crate::declare::form::Fields;
use crate::declare::rest::Rest;
use crate::failure::Failure;
use crate::{output, settings};

const ADMIN_KEY_FILE: &str = "admin.key";
const NODE_TOKEN_FILE: &str = "node.token";
const MAIL_DIRECTORY: &str = "mail";
/// What the one node is called.
const NODE: &str = "dev";

/// A control plane that serves.
pub struct Plane {
    /// Where it listens.
    pub address: SocketAddr,
    /// The same for this machine's clients.
    pub url: ControlUrl,
    /// The file with the administrator's key.
    pub admin_key: PathBuf,
    /// The file with the node's token.
    pub node_token: PathBuf,
    /// How it is asked with that key.
    pub rest: Arc<Rest>,
    /// Its database.
    pub store: Store,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Plane {
    /// Starts it, and makes the keys that are missing.
    ///
    /// # Errors
    /// When it cannot begin, or a file cannot be written.
    pub async fn start(
        listen: SocketAddr,
        data_dir: &Path,
        bank: &Bank,
        supervisor: &Arc<Supervisor>,
    ) -> Result<Self, Failure> {
        let args = ControlplaneArgs {
            data_dir: Some(data_dir.to_owned()),
            listen: Some(listen),
            allow_private_origins: true,
            billing: bank.billing.clone(),
            webhook_secrets: StripeWebhookArgs {
                stripe_webhook_secret_file: bank.webhook_secret_file.clone(),
                ..StripeWebhookArgs::default()
            },
            notify: NotifyArgs {
                mail: Some(format!("file:{}", mail_directory(data_dir).display())),
                allow_private_webhooks: true,
                ..NotifyArgs::default()
            },
            ..ControlplaneArgs::default()
        };
        let config = settings::controlplane::config(&args)?;
        let server = Server::start(config, Arc::new(System)).await.map_err(failure)?;
        let (address, store) = (server.address, server.store().clone());
        let url = format!("http://{}", files::reachable(address));
        let url: ControlUrl = url.parse().map_err(|_| {
            Failure::configuration(format!(
                "--control-listen {address}: node and control plane of `payfence dev` speak plain HTTP; give an address of loopback"
            ))
        })?;
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn({
            let supervisor = Arc::clone(supervisor);
            async move {
                // Dropped without a word, it is to end as well.
                let told = async { _ = stopped.await };
                let mut is_told = false;
                server
                    .run(async {
                        is_told = {
                            told.await;
                            true
                        }
                    })
                    .await;
                if !is_told {
                    supervisor.died("the control plane", "it takes no more connections");
                }
            }
        });
        let admin_key = data_dir.join(ADMIN_KEY_FILE);
        let key = admin_key_of(&store, &admin_key).await?;
        let rest = Arc::new(Rest::new(url.clone(), &key, None).map_err(Failure::configuration)?);
        let node_token = data_dir.join(NODE_TOKEN_FILE);
        make_node(&rest, &store, &node_token).await?;
        Ok(Self { address, url, admin_key, node_token, rest, store, stop, served })
    }

    /// Ends it, once nobody needs it any more.
    pub fn stop(self, runtime: &Runtime) {
        // It is gone already where nobody listens.
        let _ = self.stop.send(());
        if runtime.block_on(self.served).is_err() {
            tracing::warn!("the control plane did not end well");
        }
    }
}

/// Where mails go.
pub fn mail_directory(data_dir: &Path) -> PathBuf {
    data_dir.join(MAIL_DIRECTORY)
}

/// Where it is to listen, with its port: pages and webhooks need that before it is there. The usual address if it is free, any port where
/// not.
///
/// # Errors
/// When there is no port.
pub fn address(wanted: Option<SocketAddr>) -> Result<SocketAddr, Failure> {
    let usual = settings::controlplane::LISTEN_DEFAULT;
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => match TcpListener::bind(usual) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                output::note(format_args!(
                    "{usual} is taken, so the control plane listens on another port; choose one with --control-listen"
                ));
                SocketAddr::new(usual.ip(), 0)
            }
            // Whatever else is wrong with it is told when it is listened on.
            _ => usual,
        },
    };
    if wanted.port() != 0 {
        return Ok(wanted);
    }
    let free = TcpListener::bind(wanted).and_then(|listener| listener.local_addr());
    free.map_err(|error| {
        Failure::failed(format!("no port for the control plane on {}: {error}", wanted.ip()))
    })
}

/// The key of the file if it is good, else a new one, which is then in the file.
async fn admin_key_of(store: &Store, file: &Path) -> Result<String, Failure> {
    let known = first_line(file)?;
    if let Some(key) = known
        && init::is_operator_key(store, &key).await.map_err(|e| Failure::Failed(e.into()))?
    {
        return Ok(key);
    }
    let made = init::operator_key(store, "Development", "dev@localhost").await;
    let made = made.map_err(|error| Failure::Failed(error.into()))?;
    files::write_secret(file, &made.key)?;
    Ok(made.key)
}

/// Makes the node, where it is not there, and its token, where the file has none that is good.
async fn make_node(rest: &Rest, store: &Store, file: &Path) -> Result<(), Failure> {
    if let Some(token) = first_line(file)?.and_then(|text| NodeToken::parse(&text).ok()) {
        let admitted = store.admit_node(&token.hash().0).await;
        if matches!(admitted.map_err(|e| Failure::Failed(e.into()))?, Admission::Known(_)) {
            return Ok(());
        }
    }
    let refused =
        |error| Failure::Failed(anyhow::Error::from(error).context("cannot make the node"));
    let nodes = rest.list("/v1/nodes", &[]).await.map_err(refused)?;
    let is_ours = |node: &&Fields| {
        let has = |name: &str| node.get(name).is_some_and(|value| !value.is_null());
        node.get("name").is_some_and(|name| name == NODE)
            && !has("archived_at")
            && !has("declared_dead_at")
    };
    let node = match nodes.iter().find(is_ours) {
        Some(node) => node.clone(),
        None => rest.create("/v1/nodes", &json!({ "name": NODE })).await.map_err(refused)?,
    };
    let id = node.get("id").and_then(Json::as_str).unwrap_or_default();
    let made = rest.create(&format!("/v1/nodes/{id}/tokens"), &json!({})).await.map_err(refused)?;
    let secret = made.get("secret").and_then(Json::as_str);
    let secret = secret
        .ok_or_else(|| Failure::failed("the control plane made a node token without a text"))?;
    files::write_secret(file, secret)
}

fn first_line(file: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().next().map(|line| line.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(files::broken("read", file, &error)),
    }
}
