//! The first account, its owner and its key.
//!
//! In: an empty database. Out: the key, once.
//! Always holds: a database that has an account is left as it is; nothing of the key but its hash is kept.

use policy::token::{self, TokenHash};

use crate::api::gate::KEY_PREFIX;
use crate::domain::permission::Role;
use crate::storage::{
    Account, Actor, AdminKey, Change, Member, StorageError, StorageResult, Store,
};
use crate::world::World;

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is an account already.
    #[error("the database has an account already; make further keys with POST /v1/admin_keys")]
    NotEmpty,
    /// There are accounts, and none is an operator's.
    #[error("no account of the database is the operator's")]
    NoOperator,
    /// The database cannot be asked.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The account.
    pub account_id: String,
    /// The key, shown once.
    pub key: String,
}

/// A new admin key: its text, and its row without label, role and scopes.
#[must_use]
pub fn new_admin_key(world: &dyn World) -> (String, AdminKey) {
    let text = token::make_key::<std::convert::Infallible>(KEY_PREFIX, |bytes| {
        world.fill(bytes);
        Ok(())
    });
    let text = match text {
        Ok(text) => text,
        Err(never) => match never {},
    };
    let row = AdminKey {
        hash: TokenHash::of(text.as_bytes()).0.to_vec(),
        prefix: KEY_PREFIX.to_owned(),
        last_four: text.chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect(),
        ..AdminKey::default()
    };
    (text, row)
}

/// Makes the first account.
///
/// # Errors
/// When there is one, or the database cannot be asked.
pub async fn init(store: &Store, name: &str, email: &str) -> Result<Made, InitError> {
    let world = store.world().clone();
    let account_id = crate::ids::new_id("acct", &*world);
    let actor = Actor { kind: "command", id: "init".to_owned(), request_id: None };
    let mut change = store.change(&account_id, actor).await?;
    if !store.is_empty().await? {
        return Err(InitError::NotEmpty);
    }
    let (_, key) = make_account(&mut change, name, email, true).await?;
    change.commit().await?;
    Ok(Made { account_id, key })
}

/// A further key of the operator's account, for whoever has the database and no key any more; makes the first account where there is none.
///
/// # Errors
/// When the database cannot be asked.
pub async fn operator_key(store: &Store, name: &str, email: &str) -> Result<Made, InitError> {
    match init(store, name, email).await {
        Err(InitError::NotEmpty) => {}
        done => return done,
    }
    let account_id = store.operators_account().await?.ok_or(InitError::NoOperator)?;
    let actor = Actor { kind: "command", id: "init".to_owned(), request_id: None };
    let mut change = store.change(&account_id, actor).await?;
    let (key, row) = new_admin_key(&**change.world());
    let (label, role) = ("key of the command".to_owned(), Role::Owner.as_str().to_owned());
    change.insert(AdminKey { label, role, is_operator: true, ..row }).await?;
    change.commit().await?;
    Ok(Made { account_id, key })
}

/// Whether this is the text of a key that may do everything the operator may, now.
///
/// # Errors
/// When the database cannot be asked.
pub async fn is_operator_key(store: &Store, text: &str) -> StorageResult<bool> {
    let hash = TokenHash::of(text.as_bytes()).0;
    let now_ms = store.world().now_ms();
    let key = store.admin_key_by_hash(&hash).await?;
    Ok(key.is_some_and(|key| {
        let is_good =
            key.revoked_at_ms.is_none() && key.expires_at_ms.is_none_or(|at_ms| at_ms > now_ms);
        is_good && key.is_operator && key.role == Role::Owner.as_str() && key.scopes.is_none()
    }))
}

/// Makes an account with its owner and a key, in a change of that account; answers the account and the key. The key is the
/// account's and not its owner's, so that whoever owns it can change.
///
/// # Errors
/// When the database cannot be asked.
pub async fn make_account(
    change: &mut Change,
    name: &str,
    email: &str,
    is_operator: bool,
) -> StorageResult<(Account, String)> {
    let account_id = change.tenant().account_id().to_owned();
    let account = Account { id: account_id, name: name.to_owned(), ..Account::default() };
    let account = change.insert(account).await?;
    let owner = Role::Owner.as_str().to_owned();
    let member =
        Member { email: email.to_ascii_lowercase(), role: owner.clone(), ..Member::default() };
    change.insert(member).await?;
    let (text, row) = new_admin_key(&**change.world());
    let label = "first key".to_owned();
    change.insert(AdminKey { label, role: owner, is_operator, ..row }).await?;
    Ok((account, text))
}
