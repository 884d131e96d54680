use arknet_chain::{
    Action, ChannelOp, Hash, Key, LightClient, Proof, Role, StakeOp, prove, read, state_root,
};
use arknet_types::{Atoms, Timestamp};
use arknet_validator::{Store, StoreError, StoreOptions};

use crate::chain::{ARK, Chain, address, consensus_key, genesis, genesis_at};

fn open(directory: &std::path::Path) -> Result<Store, StoreError> {
    Store::open(directory, genesis(2), StoreOptions::default())
}

#[test]
fn a_store_that_is_opened_again_goes_on_where_it_was() {
    let home = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(&genesis(2));
    for height in 1..=3 {
        let store = open(home.path()).unwrap();
        let reader = store.read().unwrap();
        assert_eq!((reader.height(), reader.tip().unwrap()), (height - 1, chain.tip));
        chain.busy_block(5).keep(&store).unwrap();
        // Who reads sees what was there when it began.
        assert_eq!(reader.height(), height - 1);
        assert_eq!(store.read().unwrap().height(), height);
    }
    let store = open(home.path()).unwrap();
    let reader = store.read().unwrap();
    assert_eq!(state_root(&reader), state_root(&chain.state));
    assert_eq!(reader.meta(), chain.read(&Key::Meta).unwrap());
    let second = reader.header(2).unwrap().unwrap();
    assert_eq!(reader.height_of(&second.id()).unwrap(), Some(2));
    assert_eq!(reader.height_of(&Hash::ZERO).unwrap(), None);
    assert_eq!(reader.header(4).unwrap(), None);
    let busy = open(home.path()).unwrap_err();
    assert!(matches!(busy, StoreError::Busy), "{busy}");
}

#[test]
fn the_store_of_another_chain_is_refused() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path()).unwrap());
    let other = genesis_at(2, Timestamp(1));
    let error = Store::open(home.path(), other, StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::OtherChain { .. }), "{error}");
    assert!(error.to_string().contains("another directory"));
    open(home.path()).unwrap();
}

#[test]
fn a_file_that_is_no_store_and_one_of_another_version_are_refused_with_words() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("chain.redb");
    std::fs::write(&path, b"not a store at all").unwrap();
    let error = open(home.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    std::fs::remove_file(&path).unwrap();
    drop(open(home.path()).unwrap());
    let written_as = |format: u64| {
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let format = arknet_types::encode(&format);
        transaction.open_table(meta).unwrap().insert("format", format.as_slice()).unwrap();
        transaction.commit().unwrap();
        drop(database);
        open(home.path()).unwrap_err()
    };
    let error = written_as(9);
    assert!(matches!(error, StoreError::NewerFormat { found: 9, known: 2 }), "{error}");
    // Before the headers named what became of transactions.
    let error = written_as(1);
    assert!(matches!(error, StoreError::OlderFormat { found: 1, known: 2, .. }), "{error}");
    assert!(error.to_string().contains("another directory"), "{error}");
}

#[test]
fn only_the_next_block_is_taken() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).unwrap();
    let mut chain = Chain::new(&genesis(2));
    let (first, second) = (chain.busy_block(1), chain.busy_block(1));
    assert!(matches!(second.keep(&store), Err(StoreError::NotNext { height: 0 })));
    first.keep(&store).unwrap();
    assert!(matches!(first.keep(&store), Err(StoreError::NotNext { height: 1 })));
    let mut stranger = Chain::new(&genesis(2));
    stranger.busy_block(2);
    let other = stranger.busy_block(1);
    assert!(matches!(other.keep(&store), Err(StoreError::NotNext { height: 1 })));
    second.keep(&store).unwrap();
}

#[test]
fn a_light_client_follows_what_the_store_hands_out_over_a_change_of_the_set() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).unwrap();
    let mut chain = Chain::new(&genesis(2));
    let mut client = LightClient::from_genesis(&genesis(2)).unwrap();
    for height in 1..=4 {
        let (role, node, key) = (Role::Validator, address(7), Some(consensus_key(7).public()));
        let join = StakeOp::Deposit { role, node, amount: Atoms(150_000 * ARK), key };
        let actions = (height == 2).then(|| chain.sign(7, 0, Action::Stake(join)));
        chain.block(actions.into_iter().collect()).keep(&store).unwrap();
    }
    let reader = store.read().unwrap();
    let sizes = (1..=5).map(|h| reader.validators(h).unwrap().unwrap().members().len());
    assert_eq!(sizes.collect::<Vec<_>>(), [2, 2, 3, 3, 3]);
    assert_eq!((reader.validators(0).unwrap(), reader.validators(6).unwrap()), (None, None));
    for height in 1..=4 {
        let block = reader.light_block(height).unwrap().unwrap();
        client.advance(block, chain.now()).unwrap();
    }
    let key = Key::Account(address(7));
    let (value, proof): (_, Proof) = prove(&reader, &key);
    let account = client.value(&key, value.as_deref(), &proof).unwrap();
    assert_eq!(account, read::<arknet_chain::Account>(&reader, &key));
}

#[test]
fn open_channels_are_found_by_their_sides_until_they_close() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).unwrap();
    let mut chain = Chain::new(&genesis(2));
    let open = |payee: u8| {
        let (payee, deposit) = (address(payee), Atoms(5 * ARK));
        let op = ChannelOp::Open { payee, payee_peer: None, deposit, challenge_ms: 3_600_000 };
        Action::Channel(Box::new(op))
    };
    let actions = (0..4).map(|n| chain.sign(3, n, open(if n == 3 { 5 } else { 4 }))).collect();
    chain.block(actions).keep(&store).unwrap();
    let reader = store.read().unwrap();
    let of = |n, is_payer, after| reader.channels(&address(n), is_payer, after, 3).unwrap();
    assert_eq!((of(3, true, None).len(), of(4, false, None).len()), (3, 3));
    assert_eq!((of(5, false, None).len(), of(4, true, None).len()), (1, 0));
    let page = of(3, true, None);
    let rest = of(3, true, page.last().copied());
    assert!(rest.len() == 1 && !page.contains(&rest[0]));
    let channel = of(5, false, None)[0];
    let agreement =
        arknet_chain::CloseAgreement { network: crate::chain::network(), channel, total: Atoms(1) };
    let signature = crate::chain::wallet(5).sign(arknet_types::Domain::CHANNEL_CLOSE, &agreement);
    let key = crate::chain::wallet(5).public();
    let close = ChannelOp::CloseTogether { agreement, key, signature };
    let close = chain.sign(3, 0, Action::Channel(Box::new(close)));
    let decided = chain.block(vec![close]);
    assert_eq!(decided.executed.outcomes[0].result, Ok(None));
    decided.keep(&store).unwrap();
    let reader = store.read().unwrap();
    assert_eq!(reader.channels(&address(5), false, None, 9).unwrap(), []);
    assert_eq!(reader.channels(&address(3), true, None, 9).unwrap().len(), 3);
}

#[test]
fn what_became_of_a_transaction_is_proved_as_long_as_its_block_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let options =
        StoreOptions { keep_blocks: std::num::NonZeroU64::new(2), ..StoreOptions::default() };
    let mut chain = Chain::new(&genesis(2));
    let blocks: Vec<_> = [5, 3, 4].map(|count| chain.busy_block(count)).into();
    let keep = |index: usize| {
        let store = Store::open(home.path(), genesis(2), options).unwrap();
        blocks[index].keep(&store).unwrap();
        store.read().unwrap()
    };
    for index in 0..blocks.len() {
        let reader = keep(index);
        for (height, block) in (1..).zip(&blocks[..=index]) {
            for outcome in &block.executed.outcomes {
                let found = reader.transaction(&outcome.id).unwrap();
                assert_eq!(
                    reader.height_of_transaction(&outcome.id).unwrap(),
                    found.as_ref().map(|f| f.height)
                );
                let Some(header) = reader.header(height).unwrap() else {
                    assert_eq!((height, found), (1, None));
                    continue;
                };
                let found = found.unwrap();
                assert_eq!(found.height, height);
                assert_eq!(found.proof.verify(&header, &outcome.id), Ok(*outcome));
            }
        }
    }
}
