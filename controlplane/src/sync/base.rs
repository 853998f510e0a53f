//! Compiling the whole policy into a base file.
//!
//! In: the database. Out: a file, its sequence, length and hash.
//! Always holds: all of it is of one database snapshot; rows are read page by page, so that beside the archive itself
//! only a page of them is in memory; the file is whole and durable before anybody hears of it, and gone once nobody
//! reads it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use link::wire::BaseOffer;
use policy::compile::{Builder, CompileError};
use sha2::{Digest as _, Sha256};

use super::model::Sites;
use crate::secrets::Keyring;
use crate::storage::{StorageError, Store, SubscriptionRows};

/// Subscriptions read at once.
const PAGE: u64 = 1_000;

/// Why there is no base.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The database cannot be asked.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The policy cannot be compiled.
    #[error("the policy cannot be compiled: {0}")]
    Compile(#[from] CompileError),
    /// The file cannot be written.
    #[error("the policy's base cannot be written to {}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The thread that compiled it failed.
    #[error("the policy's base could not be made: {0}")]
    Thread(String),
}

/// A base that can be fetched.
#[derive(Clone, Debug)]
pub struct Base {
    /// What nodes are told of it.
    pub offer: BaseOffer,
    /// Its bytes: the file has no name any more, and is gone with the last of its readers.
    pub file: Arc<File>,
    /// Subscriptions and tokens in it.
    pub weight: usize,
}

/// Compiles the policy as it now is; none where nothing was ever changed.
pub async fn compile(
    store: &Store,
    keyring: &Keyring,
    history: u64,
    folder: &Path,
) -> Result<Option<Base>, BaseError> {
    let reader = store.policy_reader().await?;
    let sequence = u64::try_from(reader.sequence().await?).unwrap_or_default();
    if sequence == 0 {
        return Ok(None);
    }
    let sites = Arc::new(Sites::new(reader.sites().await?, keyring, store.world().now_ms()));
    let mut builder = Builder::new(&sites.sites)?;
    let (mut after, mut weight) = (0, 0);
    loop {
        let page = reader.subscriptions_after(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.subscription.key;
        weight += page.iter().map(|rows| 1 + rows.tokens.len()).sum::<usize>();
        let sites = Arc::clone(&sites);
        builder = blocking(move || add(builder, &sites, &page)).await??;
    }
    // What is written now needs no rows, and the database ends transactions that are idle for long.
    drop(reader);
    let path = folder.join(format!("base-{}-{sequence}", std::process::id()));
    let written = blocking(move || write(builder, sequence, &path)).await??;
    let (file, bytes, sha256) = written;
    let offer = BaseOffer { history, sequence, bytes, sha256 };
    Ok(Some(Base { offer, file: Arc::new(file), weight }))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BaseError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BaseError::Thread(error.to_string()))
}

fn add(
    mut builder: Builder,
    sites: &Sites,
    page: &[SubscriptionRows],
) -> Result<Builder, CompileError> {
    for rows in page {
        let Some((site, subscription)) = sites.subscription(rows) else { continue };
        builder.add(site, &subscription)?;
    }
    Ok(builder)
}

fn write(builder: Builder, sequence: u64, path: &Path) -> Result<(File, u64, [u8; 32]), BaseError> {
    let bytes = builder.finish(sequence)?;
    let sha256 = Sha256::digest(&bytes).into();
    let failed = |cause| BaseError::File { path: path.to_owned(), cause };
    let options = File::options().read(true).write(true).create(true).truncate(true).clone();
    let mut file = options.open(path).map_err(failed)?;
    let written = file.write_all(&bytes);
    // Without a name it needs no clearing up, whatever ends this process.
    std::fs::remove_file(path).map_err(failed)?;
    written.map_err(failed)?;
    Ok((file, bytes.len() as u64, sha256))
}
