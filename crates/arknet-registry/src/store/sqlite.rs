use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arknet_types::{PublicKey, RegistryEntry, RegistryWithdrawal, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params, params};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{COLUMNS, Query, Row, Store, StoreError, Told, forget_at, join, to_i64};
use crate::limits::{DATABASE_TIME_MAX, DATABASE_WORKERS_MAX};

/// Rows without a `node_id` are memories of a sequence. `secure_delete` overwrites what is
/// forgotten, and a write is on the disk before it is answered: a withdrawal must not come undone.
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA secure_delete = ON;
    CREATE TABLE IF NOT EXISTS registry_entries (
        key BLOB PRIMARY KEY,
        network TEXT,
        registry TEXT,
        node_id TEXT,
        endpoint TEXT,
        models TEXT,
        sequence INTEGER NOT NULL,
        issued_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        forget_at INTEGER NOT NULL,
        signature BLOB
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS registry_entries_live ON registry_entries (key) WHERE node_id IS NOT NULL;
    CREATE INDEX IF NOT EXISTS registry_entries_by_end ON registry_entries (expires_at) WHERE node_id IS NOT NULL;
    CREATE INDEX IF NOT EXISTS registry_entries_to_forget ON registry_entries (forget_at);
    CREATE TABLE IF NOT EXISTS registry_models (
        model TEXT NOT NULL,
        key BLOB NOT NULL,
        PRIMARY KEY (model, key)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS registry_models_by_key ON registry_models (key);
";

/// Entries in a file of SQLite.
pub struct Sqlite {
    path: PathBuf,
    writer: Arc<Mutex<Connection>>,
    readers: Arc<Mutex<Vec<Connection>>>,
    workers: Arc<Semaphore>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the file, and makes it where there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let writer = connect(path)?;
        writer.execute_batch(SCHEMA)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Arc::new(Mutex::new(writer)),
            readers: Arc::default(),
            workers: Arc::new(Semaphore::new(DATABASE_WORKERS_MAX)),
        })
    }

    /// Runs `work` with the connection that writes, where it may take its time.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let writer = Arc::clone(&self.writer);
        self.work(move || work(&mut writer.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    /// Runs `work` with a connection that reads: beside the one that writes, and beside others.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (readers, path) = (Arc::clone(&self.readers), self.path.clone());
        self.work(move || {
            let idle = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = idle.map_or_else(|| connect(&path), Ok)?;
            let result = work(&connection);
            readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            result
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = timeout(DATABASE_TIME_MAX, Arc::clone(&self.workers).acquire_owned());
        let permit = permit.await.map_err(|_| StoreError::Busy)?.expect("never closed");
        let done = spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        // A panic in there is a bug, and the request's alone.
        done.await.map_err(|_| StoreError::Busy)?
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(DATABASE_TIME_MAX)?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

#[async_trait]
impl Store for Sqlite {
    async fn put(&self, entry: &RegistryEntry) -> Result<Told, StoreError> {
        let entry = entry.clone();
        self.write(move |connection| {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let told = put(&change, &entry)?;
            change.commit()?;
            Ok(told)
        })
        .await
    }

    async fn withdraw(&self, withdrawal: &RegistryWithdrawal) -> Result<Told, StoreError> {
        let body = withdrawal.body.clone();
        self.write(move |connection| {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let told = turn(&change, &body.public_key.0, body.sequence)?;
            if told != Told::Superseded {
                change
                    .prepare_cached(
                        "INSERT INTO registry_entries (key, sequence, issued_at, expires_at, forget_at)
                         VALUES (?1, ?2, ?3, 0, ?4)
                         ON CONFLICT (key) DO UPDATE SET network = NULL, registry = NULL,
                         node_id = NULL, endpoint = NULL, models = NULL, signature = NULL,
                         sequence = excluded.sequence, issued_at = excluded.issued_at,
                         expires_at = 0, forget_at = max(forget_at, excluded.forget_at)",
                    )?
                    .execute(params![
                        body.public_key.0,
                        to_i64(body.sequence),
                        to_i64(body.issued_at.0),
                        to_i64(forget_at(body.issued_at).0),
                    ])?;
            }
            change.commit()?;
            Ok(told)
        })
        .await
    }

    async fn knows(&self, key: &PublicKey) -> Result<bool, StoreError> {
        let key = key.0;
        self.read(move |connection| {
            let mut known =
                connection.prepare_cached("SELECT 1 FROM registry_entries WHERE key = ?1")?;
            Ok(known.exists([key])?)
        })
        .await
    }

    async fn list(&self, query: &Query, now: Timestamp) -> Result<Vec<RegistryEntry>, StoreError> {
        let query = query.clone();
        self.read(move |connection| list(connection, &query, now)).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        let now = to_i64(now.0);
        self.write(move |connection| {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute(
                "DELETE FROM registry_models WHERE key IN (SELECT key FROM registry_entries
                 WHERE node_id IS NOT NULL AND expires_at <= ?1)",
                [now],
            )?;
            change.execute(
                "UPDATE registry_entries SET network = NULL, registry = NULL, node_id = NULL,
                 endpoint = NULL, models = NULL, signature = NULL
                 WHERE node_id IS NOT NULL AND expires_at <= ?1",
                [now],
            )?;
            change.execute("DELETE FROM registry_entries WHERE forget_at <= ?1", [now])?;
            let keys: i64 =
                change.query_one("SELECT count(*) FROM registry_entries", [], |row| row.get(0))?;
            change.commit()?;
            super::from_i64(keys)
        })
        .await
    }

    fn kind(&self) -> &'static str {
        "SQLite"
    }
}

/// Whether it is the turn of `sequence`. Where it is, the models listed under the key go.
fn turn(change: &Connection, key: &[u8; 32], sequence: u64) -> Result<Told, StoreError> {
    let known: Option<i64> = change
        .prepare_cached("SELECT sequence FROM registry_entries WHERE key = ?1")?
        .query_one([key], |row| row.get(0))
        .optional()?;
    match known {
        None => return Ok(Told::Added),
        Some(newest) if to_i64(sequence) <= newest => return Ok(Told::Superseded),
        Some(_) => {}
    }
    change.prepare_cached("DELETE FROM registry_models WHERE key = ?1")?.execute([key])?;
    Ok(Told::Replaced)
}

fn put(change: &Connection, entry: &RegistryEntry) -> Result<Told, StoreError> {
    let body = &entry.body;
    let told = turn(change, &body.public_key.0, body.sequence)?;
    if told == Told::Superseded {
        return Ok(told);
    }
    change
        .prepare_cached(
            "INSERT INTO registry_entries (key, network, registry, node_id, endpoint, models, sequence,
             issued_at, expires_at, forget_at, signature)
             VALUES (:key, :network, :registry, :node_id, :endpoint, :models, :sequence,
             :issued_at, :expires_at, :forget_at, :signature)
             ON CONFLICT (key) DO UPDATE SET network = excluded.network,
             registry = excluded.registry, node_id = excluded.node_id,
             endpoint = excluded.endpoint, models = excluded.models,
             sequence = excluded.sequence, issued_at = excluded.issued_at,
             expires_at = excluded.expires_at, signature = excluded.signature,
             forget_at = max(forget_at, excluded.forget_at)",
        )?
        .execute(named_params! {
            ":key": body.public_key.0,
            ":network": body.network.as_str(),
            ":registry": body.registry.as_str(),
            ":node_id": body.node_id.as_str(),
            ":endpoint": body.endpoint.as_str(),
            ":models": join(&body.models),
            ":sequence": to_i64(body.sequence),
            ":issued_at": to_i64(body.issued_at.0),
            ":expires_at": to_i64(body.expires_at.0),
            ":forget_at": to_i64(forget_at(body.issued_at).0),
            ":signature": entry.signature.0,
        })?;
    let mut add =
        change.prepare_cached("INSERT INTO registry_models (model, key) VALUES (?1, ?2)")?;
    for model in &body.models {
        add.execute(params![model.as_str(), body.public_key.0])?;
    }
    Ok(told)
}

fn list_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM registry_entries e INDEXED BY registry_entries_live
         WHERE e.node_id IS NOT NULL AND e.key > ?1 AND e.expires_at > ?2
         ORDER BY e.key LIMIT ?3"
    )
}

/// CROSS JOIN fixes the order: along the index of the model, which is in the order of keys.
fn list_model_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM registry_models m CROSS JOIN registry_entries e ON e.key = m.key
         WHERE m.model = ?1 AND m.key > ?2 AND e.node_id IS NOT NULL AND e.expires_at > ?3
         ORDER BY m.key LIMIT ?4"
    )
}

fn list(
    connection: &Connection,
    query: &Query,
    now: Timestamp,
) -> Result<Vec<RegistryEntry>, StoreError> {
    let after = query.after.map_or_else(Vec::new, |key| key.0.to_vec());
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let row = |row: &rusqlite::Row<'_>| {
        Ok(Row {
            network: row.get(0)?,
            registry: row.get(1)?,
            key: row.get(2)?,
            node_id: row.get(3)?,
            endpoint: row.get(4)?,
            models: row.get(5)?,
            sequence: row.get(6)?,
            issued_at: row.get(7)?,
            expires_at: row.get(8)?,
            signature: row.get(9)?,
        })
    };
    let now = to_i64(now.0);
    let rows: Vec<Row> = match &query.model {
        Some(model) => connection
            .prepare_cached(&list_model_sql())?
            .query_map(params![model.as_str(), after, now, limit], row)?
            .collect::<Result<_, _>>()?,
        None => connection
            .prepare_cached(&list_sql())?
            .query_map(params![after, now, limit], row)?
            .collect::<Result<_, _>>()?,
    };
    rows.into_iter().map(Row::entry).collect()
}

#[cfg(test)]
mod tests;
