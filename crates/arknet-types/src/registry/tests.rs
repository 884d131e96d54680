use super::*;

const NOW: Timestamp = Timestamp(1_735_689_600_000);

fn network() -> NetworkId {
    NetworkId::new("test").unwrap()
}

fn registry() -> RegistryName {
    RegistryName::new("registry.example").unwrap()
}

fn key() -> KeyPair {
    KeyPair::from_seed(&[7; 32])
}

fn body() -> EntryBody {
    EntryBody {
        network: network(),
        registry: registry(),
        public_key: key().public(),
        node_id: NodeId::new("ark-kitchen-x7k2p9").unwrap(),
        endpoint: Endpoint::new("192.0.2.7:26656").unwrap(),
        models: ["a", "b"].map(|name| ModelName::new(name).unwrap()).to_vec(),
        sequence: 1,
        issued_at: NOW,
        expires_at: NOW.plus_ms(REGISTRY_LIFETIME_MS_MAX),
    }
}

fn check(entry: &RegistryEntry, now: Timestamp) -> Result<(), &'static str> {
    entry.check(&network(), &registry(), now).map_err(|error| error.code())
}

#[test]
fn an_entry_returns_from_its_text() {
    let entry = RegistryEntry::sign(body(), &key());
    let text = serde_json::to_vec(&entry).unwrap();
    assert_eq!(RegistryEntry::parse(&text).unwrap(), entry);
    assert_eq!(check(&entry, NOW), Ok(()));
}

#[test]
fn an_entry_counts_in_its_time_for_its_network_and_registry() {
    let entry = RegistryEntry::sign(body(), &key());
    assert_eq!(check(&entry, Timestamp(NOW.0 - CLOCK_SKEW_MS_MAX)), Ok(()));
    let early = Timestamp(NOW.0 - CLOCK_SKEW_MS_MAX - 1);
    assert_eq!(check(&entry, early), Err("future_dated"));
    let end = NOW.plus_ms(REGISTRY_LIFETIME_MS_MAX);
    assert_eq!(check(&entry, Timestamp(end.0 - 1)), Ok(()));
    assert_eq!(check(&entry, end), Err("expired"));
    let code = |network: &str, registry: &str| {
        let (network, registry) = (NetworkId::new(network), RegistryName::new(registry));
        entry.check(&network.unwrap(), &registry.unwrap(), NOW).map_err(|error| error.code())
    };
    assert_eq!(code("other", "registry.example"), Err("wrong_network"));
    assert_eq!(code("test", "other.example"), Err("wrong_registry"));
    for expires_at in [NOW, NOW.plus_ms(REGISTRY_LIFETIME_MS_MAX + 1)] {
        let entry = RegistryEntry::sign(EntryBody { expires_at, ..body() }, &key());
        assert_eq!(check(&entry, NOW), Err("lifetime"));
    }
}

#[test]
fn every_field_is_under_the_signature() {
    let good = RegistryEntry::sign(body(), &key());
    let changes: [fn(&mut EntryBody); 6] = [
        |b| b.public_key = KeyPair::from_seed(&[8; 32]).public(),
        |b| b.node_id = NodeId::new("ark-other").unwrap(),
        |b| b.endpoint = Endpoint::new("192.0.2.8:26656").unwrap(),
        |b| b.models.truncate(1),
        |b| b.sequence += 1,
        |b| b.expires_at = b.issued_at.plus_ms(1),
    ];
    for change in changes {
        let mut entry = good.clone();
        change(&mut entry.body);
        assert_eq!(check(&entry, NOW), Err("forged"), "{:?}", entry.body);
    }
    let mut elsewhere = good.clone();
    elsewhere.body.registry = RegistryName::new("other.example").unwrap();
    let there = elsewhere.check(&network(), &elsewhere.body.registry, NOW);
    assert_eq!(there.unwrap_err().code(), "forged", "an entry cannot be carried elsewhere");
}

#[test]
fn a_withdrawal_is_no_entry_and_an_entry_no_withdrawal() {
    let entry = RegistryEntry::sign(body(), &key());
    let withdrawn = WithdrawalBody {
        network: network(),
        registry: registry(),
        public_key: key().public(),
        sequence: 2,
        issued_at: NOW,
        expires_at: NOW.plus_ms(1000),
    };
    let withdrawal = RegistryWithdrawal::sign(withdrawn.clone(), &key());
    assert!(withdrawal.check(&network(), &registry(), NOW).is_ok());
    let text = serde_json::to_vec(&withdrawal).unwrap();
    assert_eq!(RegistryWithdrawal::parse(&text).unwrap(), withdrawal);
    assert!(RegistryEntry::parse(&text).is_err());
    assert!(RegistryWithdrawal::parse(&serde_json::to_vec(&entry).unwrap()).is_err());
    let mixed = RegistryWithdrawal { body: withdrawn, signature: entry.signature };
    assert_eq!(mixed.check(&network(), &registry(), NOW).unwrap_err().code(), "forged");
}

#[test]
fn a_page_keeps_what_nodes_have_signed_and_nothing_else() {
    let good = RegistryEntry::sign(body(), &key());
    let mut forged = good.clone();
    forged.body.endpoint = Endpoint::new("192.0.2.66:26656").unwrap();
    let late = EntryBody { issued_at: Timestamp(1), expires_at: Timestamp(2), ..body() };
    let late = RegistryEntry::sign(late, &key());
    let page = serde_json::json!({
        "entries": [good.clone(), forged, late, "nonsense", { "approved": true }],
        "next": key().public().peer_id(),
    });
    let page = serde_json::to_vec(&page).unwrap();
    let page = RegistryPage::parse(&page, &network(), &registry(), NOW).unwrap();
    assert_eq!((page.entries, page.refused), (vec![good], 4));
    assert_eq!(page.next, Some(key().public()));
}

#[test]
fn a_page_is_bounded() {
    let parse = |bytes: &[u8]| {
        RegistryPage::parse(bytes, &network(), &registry(), NOW).map_err(|error| error.code())
    };
    let page = |count: usize| {
        let page = serde_json::json!({ "entries": vec![0; count], "next": null });
        serde_json::to_vec(&page).unwrap()
    };
    assert_eq!(parse(&page(REGISTRY_ENTRIES_PER_PAGE_MAX)).unwrap().refused, 100);
    assert_eq!(parse(&page(REGISTRY_ENTRIES_PER_PAGE_MAX + 1)), Err("malformed"));
    assert_eq!(parse(&vec![b' '; REGISTRY_PAGE_BYTES_MAX + 1]), Err("too_large"));
    assert_eq!(parse(br#"{"entries":[]}"#).unwrap(), RegistryPage::default());
    assert_eq!(parse(b"[]"), Err("malformed"));
}

#[test]
fn the_fullest_entry_fits_and_one_more_does_not() {
    let model = |n: usize| ModelName::new(format!("{n:0>128}")).unwrap();
    let models: Vec<_> = (0..MODELS_PER_OFFER_MAX).map(model).collect();
    let full = RegistryEntry::sign(EntryBody { models: models.clone(), ..body() }, &key());
    let text = serde_json::to_vec(&full).unwrap();
    assert_eq!(RegistryEntry::parse(&text).unwrap(), full);
    let pages = REGISTRY_ENTRIES_PER_PAGE_MAX * (text.len() + 1);
    assert!(pages < REGISTRY_PAGE_BYTES_MAX, "a page of such entries has room: {pages}");
    let code = |body: EntryBody| {
        let text = serde_json::to_vec(&RegistryEntry::sign(body, &key())).unwrap();
        RegistryEntry::parse(&text).map_err(|error| error.code())
    };
    let mut over = models.clone();
    over.push(model(MODELS_PER_OFFER_MAX));
    assert_eq!(code(EntryBody { models: over, ..body() }), Err("malformed"));
    let twice = vec![models[0].clone(), models[0].clone()];
    assert_eq!(code(EntryBody { models: twice, ..body() }), Err("malformed"));
    let sequence = REGISTRY_SEQUENCE_MAX + 1;
    assert_eq!(code(EntryBody { sequence, ..body() }), Err("malformed"));
    let long = vec![b' '; REGISTRY_ENTRY_BYTES_MAX + 1];
    assert_eq!(RegistryEntry::parse(&long).unwrap_err().code(), "too_large");
}
