//! Several instances on one database.

use crate::{
    cluster::Cluster,
    door::Registry,
    entries::{Clock, entry, key, withdrawal},
};

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_on_one_database_are_one_registry() {
    let cluster = Cluster::start();
    cluster.store("shared").await;
    let clock = Clock::new();
    let one = Registry::start(cluster.open("shared").await, &clock, |_| {}).await;
    let other = Registry::start(cluster.open("shared").await, &clock, |_| {}).await;
    one.register(entry(&key(1), 1, &["m"])).await.unwrap();
    let seen = other.list(Some("m")).await.unwrap();
    assert_eq!(seen.entries, [entry(&key(1), 1, &["m"])]);
    let replay = other.register(entry(&key(1), 1, &["m"])).await;
    assert_eq!(replay.unwrap_err(), "superseded");
    other.withdraw(withdrawal(&key(1), 2)).await.unwrap();
    assert_eq!(one.list(Some("m")).await.unwrap().entries, []);
    assert_eq!(one.register(entry(&key(1), 2, &["m"])).await.unwrap_err(), "superseded");
}
