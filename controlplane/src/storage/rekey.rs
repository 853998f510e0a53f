//! Sealing secrets anew with the first of the keys.
//!
//! In: the keys, old ones behind the new. Out: how many secrets were sealed anew.
//! Always holds: each row is changed from what was read, so a change meanwhile is never undone; it may be stopped and
//! run again. What a secret says stays, so nodes are told nothing and versions stay.

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::database::Database;
use super::error::{StorageError, StorageResult};
use super::rows::{Entity, Site, WebhookEndpoint, column};
use crate::secrets::Keyring;
use crate::world::World;

/// Rows at once.
const BATCH: u64 = 500;

/// Seals every secret anew that an older key sealed.
pub(super) async fn run(
    database: &Database,
    keyring: &Keyring,
    world: &dyn World,
) -> StorageResult<u64> {
    let sites = sites(database, keyring, world).await?;
    Ok(sites + webhook_endpoints(database, keyring, world).await?)
}

async fn sites(database: &Database, keyring: &Keyring, world: &dyn World) -> StorageResult<u64> {
    let (mut count, mut after) = (0, 0);
    loop {
        let sites = Entity::<Site>::find()
            .filter(column::Site::Key.gt(after))
            .filter(column::Site::SealedHeaders.is_not_null())
            .order_by_asc(column::Site::Key)
            .limit(BATCH)
            .all(database)
            .await?;
        let Some(last) = sites.last() else { return Ok(count) };
        after = last.key;
        for site in sites {
            count += site_anew(&site, database, keyring, world).await?;
        }
    }
}

async fn site_anew(
    site: &Site,
    database: &Database,
    keyring: &Keyring,
    world: &dyn World,
) -> StorageResult<u64> {
    let Some(sealed) = site.sealed_headers.as_ref().filter(|sealed| keyring.is_old(sealed)) else {
        return Ok(0);
    };
    let anew = seal_anew(&site.id, sealed, keyring, world)?;
    let done = Entity::<Site>::update_many()
        .col_expr(column::Site::SealedHeaders, anew.into())
        .filter(column::Site::Key.eq(site.key))
        .filter(column::Site::SealedHeaders.eq(sealed.clone()))
        .exec(database)
        .await?;
    // None where it was changed meanwhile: what is there now was sealed with the first key.
    Ok(done.rows_affected)
}

async fn webhook_endpoints(
    database: &Database,
    keyring: &Keyring,
    world: &dyn World,
) -> StorageResult<u64> {
    use column::WebhookEndpoint as Column;
    let (mut count, mut after) = (0, 0);
    loop {
        let query = Entity::<WebhookEndpoint>::find().filter(Column::Key.gt(after));
        let rows = query.order_by_asc(Column::Key).limit(BATCH).all(database).await?;
        let Some(last) = rows.last() else { return Ok(count) };
        after = last.key;
        for row in rows.iter().filter(|row| keyring.is_old(&row.sealed_secrets)) {
            let anew = seal_anew(&row.id, &row.sealed_secrets, keyring, world)?;
            let update = Entity::<WebhookEndpoint>::update_many()
                .col_expr(Column::SealedSecrets, anew.into())
                .filter(Column::Key.eq(row.key))
                .filter(Column::SealedSecrets.eq(row.sealed_secrets.clone()));
            count += update.exec(database).await?.rows_affected;
        }
    }
}

fn seal_anew(
    row: &str,
    sealed: &[u8],
    keyring: &Keyring,
    world: &dyn World,
) -> StorageResult<Vec<u8>> {
    let plain = keyring.open(row, sealed);
    let plain = plain.map_err(|error| StorageError::Broken(error.to_string()))?;
    Ok(keyring.seal(row, &plain, world))
}
