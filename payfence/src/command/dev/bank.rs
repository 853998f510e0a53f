//! Who takes the money of `payfence dev`: a stand-in for Stripe in this process, or Stripe's test mode where a key is given.
//!
//! In: flags, the control plane's address, the data directory. Out: the flags by which a control plane sells; the stand-in.
//! Always holds: no money moves; the stand-in listens on loopback alone, and its keys are in files that only their owner reads, made anew
//! with each start.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use stripe_sandbox::{Config, Sandbox, StartError, WebhookEndpoint};

use super::files;
use crate::cli::{BillingArgs, DevSellingArgs};
use crate::failure::Failure;

/// Where the stand-in listens, if that is free.
const USUAL_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 12_111);
const KEY_FILE: &str = "stripe-sandbox.key";
const WEBHOOK_SECRET_FILE: &str = "stripe-sandbox.webhook";
/// Webhooks at once: as many as one control plane has under way without others noticing.
const WEBHOOKS_AT_ONCE: usize = 8;

/// Who takes the money, and how a control plane is told.
#[derive(Debug)]
pub struct Bank {
    /// What a control plane is told.
    pub billing: BillingArgs,
    /// What it knows webhooks by.
    pub webhook_secret_file: Option<PathBuf>,
    /// None where Stripe itself is asked.
    pub sandbox: Option<Sandbox>,
}

impl Bank {
    /// Starts the stand-in, where it is wanted, for a control plane that will listen on `control`.
    ///
    /// # Errors
    /// When it cannot listen, or a file cannot be written.
    pub async fn open(
        args: &DevSellingArgs,
        control: SocketAddr,
        data_dir: &Path,
    ) -> Result<Self, Failure> {
        let pages = format!("http://{}", files::reachable(control));
        let public_url = Some(args.public_url.clone().unwrap_or_else(|| pages.clone()));
        if let Some(key) = &args.stripe_secret_key_file {
            let billing = BillingArgs {
                stripe_secret_key_file: Some(key.clone()),
                public_url,
                ..BillingArgs::default()
            };
            let webhook_secret_file = args.stripe_webhook_secret_file.clone();
            return Ok(Self { billing, webhook_secret_file, sandbox: None });
        }
        let secret_key = format!("sk_test_{}", random_text()?);
        let webhook_secret = format!("whsec_{}", random_text()?);
        let (key_file, secret_file) = (data_dir.join(KEY_FILE), data_dir.join(WEBHOOK_SECRET_FILE));
        files::write_secret(&key_file, &secret_key)?;
        files::write_secret(&secret_file, &webhook_secret)?;
        let webhooks = format!("{pages}/stripe/webhooks/test");
        let config = Config {
            address: USUAL_ADDRESS,
            secret_key,
            webhook_endpoints: vec![WebhookEndpoint::new(webhooks, webhook_secret, true)],
            webhook_concurrency: WEBHOOKS_AT_ONCE,
            ..Config::default()
        };
        let sandbox = start(config).await.map_err(|error| Failure::failed(error.to_string()))?;
        let billing = BillingArgs {
            stripe_secret_key_file: Some(key_file),
            stripe_base_url: Some(sandbox.url()),
            public_url,
            ..BillingArgs::default()
        };
        Ok(Self { billing, webhook_secret_file: Some(secret_file), sandbox: Some(sandbox) })
    }
}

/// At the usual address, or at any where that is taken.
async fn start(config: Config) -> Result<Sandbox, StartError> {
    let anywhere = SocketAddr::new(config.address.ip(), 0);
    match Sandbox::start(config.clone()).await {
        Err(StartError::Bind { cause, .. }) if cause.kind() == io::ErrorKind::AddrInUse => {
            Sandbox::start(Config { address: anywhere, ..config }).await
        }
        outcome => outcome,
    }
}

fn random_text() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("no randomness: {error}")))?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes everything.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
