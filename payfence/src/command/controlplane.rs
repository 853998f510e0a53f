//! `payfence controlplane`, `payfence controlplane init`, `payfence controlplane rekey`.
//!
//! In: flags, environment. Out: a control plane until it is told to stop; or the first key, once.
//! Always holds: SIGTERM and SIGINT drain; the key goes to standard output alone.

use std::sync::Arc;

use controlplane::init::{self, InitError};
use controlplane::server::{self, Config, Server};
use controlplane::storage::Store;
use controlplane::world::System;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{ControlplaneArgs, ControlplaneCommand, ControlplaneInitArgs};
use crate::failure::{Failure, Outcome};
use crate::{output, settings};

pub fn run(args: ControlplaneArgs) -> Outcome {
    let config = settings::controlplane::config(&args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.into()))?;
    match args.command {
        None => runtime.block_on(serve(config)),
        Some(ControlplaneCommand::Init(args)) => runtime.block_on(first_account(&config, &args)),
        Some(ControlplaneCommand::Rekey) => runtime.block_on(rekey(&config)),
    }
}

async fn serve(config: Config) -> Outcome {
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| Failure::Failed(e.into()))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| Failure::Failed(e.into()))?;
    let server = Server::start(config, Arc::new(System)).await.map_err(failure)?;
    let scheme = if server.is_tls() { "https" } else { "http" };
    output::line(format_args!(
        "control plane {scheme}://{0}, described at {scheme}://{0}/docs",
        server.address
    ));
    server
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    Ok(())
}

async fn open(config: &Config) -> Result<Store, Failure> {
    server::open_store(&config.database_url, Arc::new(System)).await.map_err(failure)
}

async fn first_account(config: &Config, args: &ControlplaneInitArgs) -> Outcome {
    let store = open(config).await?;
    let made = init::init(&store, &args.account, &args.email).await;
    store.close().await;
    match made {
        Ok(made) => {
            output::note(format_args!(
                "made account {} with owner {}; this admin key is shown once:",
                made.account_id, args.email
            ));
            output::line(format_args!("{}", made.key));
            Ok(())
        }
        Err(error @ InitError::NotEmpty) => Err(Failure::configuration(error)),
        Err(error) => Err(Failure::Failed(error.into())),
    }
}

async fn rekey(config: &Config) -> Outcome {
    let store = open(config).await?;
    let done = store.rekey(&config.keyring).await;
    store.close().await;
    let count = done.map_err(|error| Failure::Failed(error.into()))?;
    output::line(format_args!("{count} secrets were encrypted anew; older keys can be taken away"));
    Ok(())
}

/// A control plane that cannot begin.
pub fn failure(error: server::Error) -> Failure {
    match error {
        server::Error::Url(_) | server::Error::Tls(_) | server::Error::ClickHouse(_) => {
            Failure::Configuration(error.into())
        }
        _ => Failure::Failed(error.into()),
    }
}
