//! What every database must do, and which ones do.

use std::{slice::from_ref, sync::Arc};

use arknet_registry::{Query, Sqlite, Store, Told};
use arknet_types::{
    EntryBody, KeyPair, RegistryEntry, Timestamp,
    limits::{CLOCK_SKEW_MS_MAX, MODELS_PER_OFFER_MAX, REGISTRY_LIFETIME_MS_MAX},
};

use crate::{
    cluster::Cluster,
    entries::{HOUR_MS, NOW, body, entry, key, model, withdrawal},
};

type Shared = Arc<dyn Store>;

#[tokio::test]
async fn sqlite_does_what_a_registry_needs() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = 0;
    let mut fresh = || {
        files += 1;
        Arc::new(Sqlite::open(&directory.path().join(format!("{files}.db"))).unwrap())
    };
    the_newest_holds(fresh()).await;
    lists_are_pages_in_the_order_of_keys(fresh()).await;
    a_withdrawal_leaves_nothing_but_its_sequence(fresh()).await;
    what_expires_is_forgotten_but_cannot_come_back(fresh()).await;
    the_fullest_entry_fits(fresh()).await;
    many_at_once_leave_one_truth(fresh()).await;
}

#[tokio::test]
async fn postgresql_does_what_a_registry_needs() {
    let mut cluster = Cluster::start();
    the_newest_holds(cluster.store("a").await).await;
    lists_are_pages_in_the_order_of_keys(cluster.store("b").await).await;
    a_withdrawal_leaves_nothing_but_its_sequence(cluster.store("c").await).await;
    what_expires_is_forgotten_but_cannot_come_back(cluster.store("d").await).await;
    the_fullest_entry_fits(cluster.store("e").await).await;
    many_at_once_leave_one_truth(cluster.store("f").await).await;
    a_database_that_restarts_is_found_again(&mut cluster).await;
}

async fn a_database_that_restarts_is_found_again(cluster: &mut Cluster) {
    let store = cluster.store("g").await;
    store.put(&entry(&key(1), 1, &["m"])).await.unwrap();
    cluster.restart();
    let query = Query { limit: 10, ..Query::default() };
    // The first may meet the connection that broke; it is not used again.
    let entries = match store.list(&query, NOW).await {
        Ok(entries) => entries,
        Err(_) => store.list(&query, NOW).await.unwrap(),
    };
    assert_eq!(entries.len(), 1);
    assert_eq!(store.put(&entry(&key(1), 2, &["m"])).await.unwrap(), Told::Replaced);
}

#[tokio::test]
async fn a_file_of_sqlite_outlives_its_program() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.db");
    let (kept, gone) = (entry(&key(1), 1, &["a"]), key(2));
    {
        let store = Sqlite::open(&path).unwrap();
        store.put(&kept).await.unwrap();
        store.put(&entry(&gone, 1, &["a"])).await.unwrap();
        store.withdraw(&withdrawal(&gone, 2)).await.unwrap();
    }
    let store = Sqlite::open(&path).unwrap();
    assert_eq!(all(&store, Some("a")).await, from_ref(&kept));
    assert_eq!(store.put(&kept).await.unwrap(), Told::Superseded);
    assert_eq!(store.put(&entry(&gone, 2, &["a"])).await.unwrap(), Told::Superseded);
}

async fn all(store: &dyn Store, wanted: Option<&str>) -> Vec<RegistryEntry> {
    at(store, wanted, NOW).await
}

async fn at(store: &dyn Store, wanted: Option<&str>, now: Timestamp) -> Vec<RegistryEntry> {
    let query = Query { model: wanted.map(model), after: None, limit: 1000 };
    store.list(&query, now).await.unwrap()
}

async fn the_newest_holds(store: Shared) {
    let first = entry(&key(1), 5, &["a", "b"]);
    assert!(!store.knows(&key(1).public()).await.unwrap());
    assert_eq!(store.put(&first).await.unwrap(), Told::Added);
    assert!(store.knows(&key(1).public()).await.unwrap());
    assert_eq!(all(&*store, None).await, from_ref(&first), "it comes back as it was signed");
    assert_eq!(store.put(&first).await.unwrap(), Told::Superseded, "a replay");
    let late = entry(&key(1), 4, &["a"]);
    assert_eq!(store.put(&late).await.unwrap(), Told::Superseded);
    let second = entry(&key(1), 6, &["b", "c"]);
    assert_eq!(store.put(&second).await.unwrap(), Told::Replaced);
    for (wanted, there) in [("a", false), ("b", true), ("c", true), ("B", false)] {
        let expected = if there { vec![second.clone()] } else { vec![] };
        assert_eq!(all(&*store, Some(wanted)).await, expected, "{wanted}");
    }
    let third = entry(&key(1), 7, &[]);
    assert_eq!(store.put(&third).await.unwrap(), Told::Replaced);
    assert_eq!(all(&*store, None).await, [third]);
    assert_eq!(all(&*store, Some("b")).await, []);
}

async fn lists_are_pages_in_the_order_of_keys(store: Shared) {
    let mut keys: Vec<KeyPair> = (1..=7).map(key).collect();
    for (index, key) in keys.iter().enumerate() {
        let models: &[&str] = if index % 2 == 0 { &["even"] } else { &["odd"] };
        store.put(&entry(key, 1, models)).await.unwrap();
    }
    keys.sort_by_key(|key| key.public().0);
    let sorted: Vec<_> = keys.iter().map(KeyPair::public).collect();
    let listed = all(&*store, None).await;
    assert_eq!(listed.iter().map(|entry| entry.body.public_key).collect::<Vec<_>>(), sorted);
    for wanted in [None, Some("even"), Some("odd")] {
        let whole = all(&*store, wanted).await;
        let mut pages = Vec::new();
        let mut after = None;
        loop {
            let query = Query { model: wanted.map(model), after, limit: 2 };
            let page = store.list(&query, NOW).await.unwrap();
            assert!(page.len() <= 2);
            let Some(last) = page.last() else { break };
            after = Some(last.body.public_key);
            pages.extend(page);
        }
        assert_eq!(pages, whole, "{wanted:?}");
    }
    assert_eq!(all(&*store, Some("even")).await.len(), 4);
    let end = NOW.plus_ms(HOUR_MS);
    assert_eq!(at(&*store, None, Timestamp(end.0 - 1)).await.len(), 7);
    assert_eq!(at(&*store, None, end).await, [], "also before anybody sweeps");
    assert_eq!(at(&*store, Some("odd"), end).await, []);
}

async fn a_withdrawal_leaves_nothing_but_its_sequence(store: Shared) {
    let key = key(1);
    store.put(&entry(&key, 5, &["a"])).await.unwrap();
    assert_eq!(store.withdraw(&withdrawal(&key, 5)).await.unwrap(), Told::Superseded);
    assert_eq!(all(&*store, Some("a")).await.len(), 1);
    assert_eq!(store.withdraw(&withdrawal(&key, 6)).await.unwrap(), Told::Replaced);
    assert_eq!(all(&*store, None).await, []);
    assert_eq!(all(&*store, Some("a")).await, []);
    assert!(store.knows(&key.public()).await.unwrap());
    assert_eq!(store.withdraw(&withdrawal(&key, 6)).await.unwrap(), Told::Superseded);
    assert_eq!(store.put(&entry(&key, 5, &["a"])).await.unwrap(), Told::Superseded);
    assert_eq!(store.put(&entry(&key, 6, &["a"])).await.unwrap(), Told::Superseded);
    assert_eq!(store.put(&entry(&key, 7, &["a"])).await.unwrap(), Told::Replaced);
    assert_eq!(all(&*store, Some("a")).await.len(), 1);
    let stranger = crate::entries::key(2);
    assert_eq!(store.withdraw(&withdrawal(&stranger, 3)).await.unwrap(), Told::Added);
    assert_eq!(store.put(&entry(&stranger, 3, &["a"])).await.unwrap(), Told::Superseded);
}

async fn what_expires_is_forgotten_but_cannot_come_back(store: Shared) {
    let key = key(1);
    let day = NOW.plus_ms(REGISTRY_LIFETIME_MS_MAX);
    let long = EntryBody { expires_at: day, ..body(&key, 1, &["a"]) };
    let long = RegistryEntry::sign(long, &key);
    store.put(&long).await.unwrap();
    store.put(&entry(&key, 2, &["a"])).await.unwrap();
    assert_eq!(store.sweep(NOW).await.unwrap(), 1);
    assert_eq!(all(&*store, Some("a")).await.len(), 1);
    let end = NOW.plus_ms(HOUR_MS);
    assert_eq!(store.sweep(end).await.unwrap(), 1, "the sequence is remembered");
    assert_eq!(at(&*store, None, NOW).await, [], "and nothing else");
    assert_eq!(at(&*store, Some("a"), NOW).await, []);
    assert_eq!(store.put(&long).await.unwrap(), Told::Superseded, "though it counts for a day");
    let forgotten = day.plus_ms(CLOCK_SKEW_MS_MAX);
    assert_eq!(store.sweep(Timestamp(forgotten.0 - 1)).await.unwrap(), 1);
    assert_eq!(store.sweep(forgotten).await.unwrap(), 0);
    assert!(!store.knows(&key.public()).await.unwrap());
    let later = EntryBody { issued_at: end, expires_at: day, ..body(&key, 3, &["b"]) };
    store.put(&RegistryEntry::sign(later, &key)).await.unwrap();
    store.withdraw(&withdrawal(&key, 4)).await.unwrap();
    assert_eq!(store.sweep(forgotten).await.unwrap(), 1, "as long as the latest word needs");
    assert_eq!(store.sweep(forgotten.plus_ms(HOUR_MS)).await.unwrap(), 0);
}

async fn the_fullest_entry_fits(store: Shared) {
    let key = key(1);
    let models = (0..MODELS_PER_OFFER_MAX).map(|n| model(&format!("{n:0>128}"))).collect();
    let full = EntryBody { models, ..body(&key, (1 << 53) - 1, &[]) };
    let full = RegistryEntry::sign(full, &key);
    assert_eq!(store.put(&full).await.unwrap(), Told::Added);
    let last = format!("{:0>128}", MODELS_PER_OFFER_MAX - 1);
    assert_eq!(all(&*store, Some(&last)).await, [full]);
}

async fn many_at_once_leave_one_truth(store: Shared) {
    let mut work = tokio::task::JoinSet::new();
    for sequence in 1..=40_u64 {
        let writer = Arc::clone(&store);
        work.spawn(async move {
            let name = format!("m{sequence}");
            writer.put(&entry(&key(1), sequence, &[&name])).await.unwrap()
        });
        let leaver = Arc::clone(&store);
        work.spawn(async move { leaver.withdraw(&withdrawal(&key(2), sequence)).await.unwrap() });
    }
    let told = work.join_all().await;
    assert_eq!(told.iter().filter(|told| **told == Told::Added).count(), 2);
    let newest = entry(&key(1), 40, &["m40"]);
    assert_eq!(all(&*store, None).await, from_ref(&newest));
    for sequence in 1..40 {
        assert_eq!(all(&*store, Some(&format!("m{sequence}"))).await, [], "m{sequence}");
    }
    assert_eq!(all(&*store, Some("m40")).await, [newest]);
}
