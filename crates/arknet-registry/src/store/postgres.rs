mod tls;

use std::{
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use arknet_types::{ModelName, PublicKey, RegistryEntry, RegistryWithdrawal, Timestamp};
use async_trait::async_trait;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_postgres::{
    Client, Config, Statement,
    config::{Host, SslMode},
};

use self::tls::Tls;
use super::{COLUMNS, Query, Row, Store, StoreError, Told, forget_at, from_i64, join, to_i64};
use crate::limits::{DATABASE_TIME_MAX, DATABASE_WORKERS_MAX};

/// Instances that start at the same time make the tables one after the other. Rows without a
/// `node_id` are memories of a sequence.
const SCHEMA: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(4702958012345);
    CREATE TABLE IF NOT EXISTS registry_entries (
        key BYTEA PRIMARY KEY,
        network TEXT,
        registry TEXT,
        node_id TEXT,
        endpoint TEXT,
        models TEXT,
        sequence BIGINT NOT NULL,
        issued_at BIGINT NOT NULL,
        expires_at BIGINT NOT NULL,
        forget_at BIGINT NOT NULL,
        signature BYTEA
    );
    CREATE INDEX IF NOT EXISTS registry_entries_live
        ON registry_entries (key) WHERE node_id IS NOT NULL;
    CREATE INDEX IF NOT EXISTS registry_entries_by_end
        ON registry_entries (expires_at) WHERE node_id IS NOT NULL;
    CREATE INDEX IF NOT EXISTS registry_entries_to_forget ON registry_entries (forget_at);
    CREATE TABLE IF NOT EXISTS registry_models (
        model TEXT NOT NULL,
        key BYTEA NOT NULL,
        PRIMARY KEY (model, key)
    );
    CREATE INDEX IF NOT EXISTS registry_models_by_key ON registry_models (key);
    COMMIT;
";

/// How to reach the database.
#[derive(Clone)]
pub struct PostgresOptions {
    /// The connection string, which may hold a password: `postgres://..` or `host=.. user=..`.
    pub url: String,
    /// The certificates that count for the database; those of public authorities when none.
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("ca", &self.ca).finish_non_exhaustive()
    }
}

/// Entries in a database of PostgreSQL, which several instances may share.
pub struct Postgres {
    config: Config,
    tls: Tls,
    idle: Mutex<Vec<Session>>,
    workers: Semaphore,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

/// A connection, with what it has prepared.
struct Session {
    client: Client,
    put: Statement,
    withdraw: Statement,
    unlist: Statement,
    relist: Statement,
    list: Statement,
    list_model: Statement,
}

impl Postgres {
    /// Connects, and makes the tables where there are none.
    pub async fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        let mut config: Config = options
            .url
            .parse()
            // The words of the parser may repeat what stands in the string.
            .map_err(|_| StoreError::Address("it is not one of PostgreSQL".into()))?;
        config.connect_timeout(DATABASE_TIME_MAX).application_name("arknet-registry");
        secure(&mut config);
        let tls = Tls::new(options.ca.as_deref())?;
        let store = Self {
            config,
            tls,
            idle: Mutex::default(),
            workers: Semaphore::new(DATABASE_WORKERS_MAX),
        };
        let client = store.connect().await?;
        client.batch_execute(SCHEMA).await?;
        store.give_back(Session::prepare(client).await?);
        Ok(store)
    }

    async fn connect(&self) -> Result<Client, StoreError> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        // It ends with its client.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "a connection to the database ended");
            }
        });
        let patience = format!("SET statement_timeout = {}", DATABASE_TIME_MAX.as_millis());
        client.batch_execute(&patience).await?;
        Ok(client)
    }

    /// A connection of one's own, until it is given back.
    async fn hold(&self) -> Result<(Session, SemaphorePermit<'_>), StoreError> {
        let permit = self.workers.acquire().await.expect("never closed");
        let session = match self.idle() {
            Some(session) => session,
            None => Session::prepare(self.connect().await?).await?,
        };
        Ok((session, permit))
    }

    fn idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|session| !session.client.is_closed());
        idle.pop()
    }

    fn give_back(&self, session: Session) {
        if !session.client.is_closed() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}

/// Over a network the database is reached by TLS, unless the connection string says otherwise in so
/// many words; a socket of this machine has none.
fn secure(config: &mut Config) {
    let is_here = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
    };
    let hosts = config.get_hosts();
    let mode = match config.get_ssl_mode() {
        SslMode::Prefer if hosts.iter().all(is_here) => SslMode::Disable,
        SslMode::Prefer => SslMode::Require,
        mode => mode,
    };
    config.ssl_mode(mode);
}

impl Session {
    async fn prepare(client: Client) -> Result<Self, StoreError> {
        let put = client.prepare(
            "INSERT INTO registry_entries AS e (key, network, registry, node_id, endpoint, models,
             sequence, issued_at, expires_at, forget_at, signature)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (key) DO UPDATE SET network = excluded.network,
             registry = excluded.registry, node_id = excluded.node_id,
             endpoint = excluded.endpoint, models = excluded.models,
             sequence = excluded.sequence, issued_at = excluded.issued_at,
             expires_at = excluded.expires_at, signature = excluded.signature,
             forget_at = greatest(e.forget_at, excluded.forget_at)
             WHERE e.sequence < excluded.sequence
             RETURNING xmax = 0",
        );
        let put = put.await?;
        let withdraw = client.prepare(
            "INSERT INTO registry_entries AS e (key, sequence, issued_at, expires_at, forget_at)
             VALUES ($1, $2, $3, 0, $4)
             ON CONFLICT (key) DO UPDATE SET network = NULL, registry = NULL, node_id = NULL,
             endpoint = NULL, models = NULL, signature = NULL, sequence = excluded.sequence,
             issued_at = excluded.issued_at, expires_at = 0,
             forget_at = greatest(e.forget_at, excluded.forget_at)
             WHERE e.sequence < excluded.sequence
             RETURNING xmax = 0",
        );
        let withdraw = withdraw.await?;
        let unlist = client.prepare("DELETE FROM registry_models WHERE key = $1").await?;
        let relist = client
            .prepare("INSERT INTO registry_models (model, key) SELECT unnest($1::text[]), $2")
            .await?;
        let list = format!(
            "SELECT {COLUMNS} FROM registry_entries e
             WHERE e.node_id IS NOT NULL AND e.key > $1 AND e.expires_at > $2
             ORDER BY e.key LIMIT $3"
        );
        let list = client.prepare(&list).await?;
        let list_model = format!(
            "SELECT {COLUMNS} FROM registry_models m JOIN registry_entries e ON e.key = m.key
             WHERE m.model = $4 AND m.key > $1 AND e.node_id IS NOT NULL AND e.expires_at > $2
             ORDER BY m.key LIMIT $3"
        );
        let list_model = client.prepare(&list_model).await?;
        Ok(Self { client, put, withdraw, unlist, relist, list, list_model })
    }
}

/// Bounds a piece of work in time. A connection whose work did not end well is not used again.
async fn bounded<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(DATABASE_TIME_MAX, work).await.map_err(|_| StoreError::Busy)?
}

#[async_trait]
impl Store for Postgres {
    async fn put(&self, entry: &RegistryEntry) -> Result<Told, StoreError> {
        bounded(async {
            let (mut session, _permit) = self.hold().await?;
            let told = session.put(entry).await?;
            self.give_back(session);
            Ok(told)
        })
        .await
    }

    async fn withdraw(&self, withdrawal: &RegistryWithdrawal) -> Result<Told, StoreError> {
        bounded(async {
            let (mut session, _permit) = self.hold().await?;
            let told = session.withdraw(withdrawal).await?;
            self.give_back(session);
            Ok(told)
        })
        .await
    }

    async fn knows(&self, key: &PublicKey) -> Result<bool, StoreError> {
        bounded(async {
            let (session, _permit) = self.hold().await?;
            let known = "SELECT 1 FROM registry_entries WHERE key = $1";
            let row = session.client.query_opt(known, &[&&key.0[..]]).await?;
            self.give_back(session);
            Ok(row.is_some())
        })
        .await
    }

    async fn list(&self, query: &Query, now: Timestamp) -> Result<Vec<RegistryEntry>, StoreError> {
        bounded(async {
            let (session, _permit) = self.hold().await?;
            let entries = session.list(query, now).await?;
            self.give_back(session);
            Ok(entries)
        })
        .await
    }

    async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError> {
        bounded(async {
            let (mut session, _permit) = self.hold().await?;
            let keys = session.sweep(now).await?;
            self.give_back(session);
            Ok(keys)
        })
        .await
    }

    fn kind(&self) -> &'static str {
        "PostgreSQL"
    }
}

impl Session {
    async fn put(&mut self, entry: &RegistryEntry) -> Result<Told, StoreError> {
        let body = &entry.body;
        let key = &body.public_key.0[..];
        let models: Vec<&str> = body.models.iter().map(ModelName::as_str).collect();
        let change = self.client.transaction().await?;
        // From here on the row is ours until the end, so the models go with it.
        let row = change
            .query_opt(
                &self.put,
                &[
                    &key,
                    &body.network.as_str(),
                    &body.registry.as_str(),
                    &body.node_id.as_str(),
                    &body.endpoint.as_str(),
                    &join(&body.models),
                    &to_i64(body.sequence),
                    &to_i64(body.issued_at.0),
                    &to_i64(body.expires_at.0),
                    &to_i64(forget_at(body.issued_at).0),
                    &&entry.signature.0[..],
                ],
            )
            .await?;
        let Some(row) = row else { return Ok(Told::Superseded) };
        change.execute(&self.unlist, &[&key]).await?;
        change.execute(&self.relist, &[&models, &key]).await?;
        change.commit().await?;
        Ok(if row.try_get(0)? { Told::Added } else { Told::Replaced })
    }

    async fn withdraw(&mut self, withdrawal: &RegistryWithdrawal) -> Result<Told, StoreError> {
        let body = &withdrawal.body;
        let key = &body.public_key.0[..];
        let change = self.client.transaction().await?;
        let row = change
            .query_opt(
                &self.withdraw,
                &[
                    &key,
                    &to_i64(body.sequence),
                    &to_i64(body.issued_at.0),
                    &to_i64(forget_at(body.issued_at).0),
                ],
            )
            .await?;
        let Some(row) = row else { return Ok(Told::Superseded) };
        change.execute(&self.unlist, &[&key]).await?;
        change.commit().await?;
        Ok(if row.try_get(0)? { Told::Added } else { Told::Replaced })
    }

    async fn list(&self, query: &Query, now: Timestamp) -> Result<Vec<RegistryEntry>, StoreError> {
        let after = query.after.map_or_else(Vec::new, |key| key.0.to_vec());
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        let now = to_i64(now.0);
        let rows = match query.model.as_ref().map(ModelName::as_str) {
            Some(model) => {
                self.client.query(&self.list_model, &[&after, &now, &limit, &model]).await?
            }
            None => self.client.query(&self.list, &[&after, &now, &limit]).await?,
        };
        rows.iter().map(|row| read(row)?.entry()).collect()
    }

    async fn sweep(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        let now = to_i64(now.0);
        let change = self.client.transaction().await?;
        // The rows are locked first, then their models go: the same order as in a change.
        change
            .execute(
                "WITH expired AS (
                    UPDATE registry_entries SET network = NULL, registry = NULL, node_id = NULL,
                    endpoint = NULL, models = NULL, signature = NULL
                    WHERE node_id IS NOT NULL AND expires_at <= $1 RETURNING key
                 )
                 DELETE FROM registry_models m USING expired WHERE m.key = expired.key",
                &[&now],
            )
            .await?;
        change.execute("DELETE FROM registry_entries WHERE forget_at <= $1", &[&now]).await?;
        let row = change.query_one("SELECT count(*) FROM registry_entries", &[]).await?;
        change.commit().await?;
        from_i64(row.try_get(0)?)
    }
}

fn read(row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    Ok(Row {
        network: row.try_get(0)?,
        registry: row.try_get(1)?,
        key: row.try_get(2)?,
        node_id: row.try_get(3)?,
        endpoint: row.try_get(4)?,
        models: row.try_get(5)?,
        sequence: row.try_get(6)?,
        issued_at: row.try_get(7)?,
        expires_at: row.try_get(8)?,
        signature: row.try_get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_across_a_network_is_reached_by_tls() {
        let mode = |url: &str| {
            let mut config: Config = url.parse().unwrap();
            secure(&mut config);
            config.get_ssl_mode()
        };
        assert_eq!(mode("postgres://u:p@db.example/r"), SslMode::Require);
        assert_eq!(mode("postgres://u:p@10.0.0.5/r?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgres://u:p@127.0.0.1/r"), SslMode::Disable);
        assert_eq!(mode("postgres://u:p@127.0.0.1/r?sslmode=require"), SslMode::Require);
        assert_eq!(mode("host=/run/postgresql user=u"), SslMode::Disable);
        assert_eq!(mode("host=localhost,db.example user=u"), SslMode::Require);
    }

    #[tokio::test]
    async fn a_password_is_not_repeated() {
        let options = PostgresOptions { url: "postgres://u:hunter2@[x".into(), ca: None };
        let error = Postgres::open(&options).await.unwrap_err();
        assert!(!format!("{error} {error:?} {options:?}").contains("hunter2"), "{error}");
    }
}
