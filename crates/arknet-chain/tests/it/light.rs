use arknet_chain::{
    Account, CommitSignature, Hash, Key, LightBlock, LightClient, LightError, ProofError, Role,
    SignedVote, StakeOp, ValidatorSet, prove,
};
use arknet_types::{Address, Atoms, NetworkId, Timestamp};

use crate::chain::{ARK, Chain, DAY, address, consensus_key, genesis, network};

/// The last block, as a full node hands it over. `voters` is the set that voted on it.
fn tip(chain: &Chain, voters: ValidatorSet) -> LightBlock {
    LightBlock {
        header: chain.headers.last().unwrap().clone(),
        certificate: chain.commit.clone().unwrap(),
        validators: voters,
        next_validators: chain.validators(),
    }
}

/// A chain, and a client that has followed it for three blocks.
fn followed() -> (Chain, LightClient) {
    let mut genesis = genesis(4);
    genesis.params.set(arknet_chain::Param::BootstrapMs, 0).unwrap();
    for validator in &mut genesis.validators {
        validator.stake = Atoms(200_000 * ARK);
    }
    let mut chain = Chain::new(&genesis);
    let mut client = LightClient::from_genesis(&genesis).unwrap();
    for height in 1..=3 {
        let voters = chain.validators();
        chain.block(vec![]);
        client.advance(tip(&chain, voters), chain.now()).unwrap();
        assert_eq!((client.height(), client.id()), (height, chain.tip));
    }
    (chain, client)
}

fn join(chain: &mut Chain, n: u8, ark: u64) {
    let (role, node, key) = (Role::Validator, address(n), Some(consensus_key(n).public()));
    let deposit = StakeOp::Deposit { role, node, amount: Atoms(ark * ARK), key };
    chain.act(n, arknet_chain::Action::Stake(deposit)).unwrap();
}

#[test]
fn a_client_reads_what_is_proved_and_nothing_else() {
    let (chain, client) = followed();
    let key = Key::Account(address(5));
    let (value, proof) = prove(&chain.state, &key);
    let account: Account = client.value(&key, value.as_deref(), &proof).unwrap().unwrap();
    assert_eq!(account, chain.account(5));
    // A forged balance.
    let rich = Account { balance: Atoms(u64::MAX), ..account };
    let forged = client.value::<Account>(&key, Some(&arknet_types::encode(&rich)), &proof);
    assert!(matches!(forged, Err(LightError::Proof(ProofError::Value))));
    // A value that is kept back.
    assert!(client.value::<Account>(&key, None, &proof).is_err());
    // Another account's proof.
    let other = Key::Account(address(6));
    assert!(client.value::<Account>(&other, value.as_deref(), &proof).is_err());
    // Nobody's account.
    let nobody = Key::Account(Address([9; 20]));
    let (none, absent) = prove(&chain.state, &nobody);
    assert_eq!(client.value::<Account>(&nobody, none.as_deref(), &absent).unwrap(), None);
    assert!(client.value::<Account>(&key, None, &absent).is_err());
    // Before any header nothing is proved.
    let fresh = LightClient::from_genesis(&genesis(4)).unwrap();
    let early = fresh.value::<Account>(&key, value.as_deref(), &proof);
    assert!(matches!(early, Err(LightError::NoHeader)));
}

#[test]
fn a_client_takes_no_forged_header() {
    let (mut chain, client) = followed();
    let voters = chain.validators();
    chain.block(vec![]);
    let good = tip(&chain, voters);
    let now = chain.now();
    let refused = |change: &dyn Fn(&mut LightBlock)| {
        let mut block = good.clone();
        change(&mut block);
        client.clone().advance(block, now).unwrap_err()
    };
    assert!(matches!(refused(&|b| b.header.state_root = Hash::ZERO), LightError::Block));
    assert!(matches!(refused(&|b| b.certificate.height = 9), LightError::Block));
    let abroad = refused(&|b| b.header.network = NetworkId::new("x").unwrap());
    assert!(matches!(abroad, LightError::Network));
    assert!(matches!(refused(&|b| b.header.height = 3), LightError::NotNewer));
    let few = refused(&|b| b.certificate.signatures.truncate(2));
    assert!(matches!(few, LightError::Certificate(_)));
    let forged = refused(&|b| b.certificate.signatures[0].signature.0[40] ^= 1);
    assert!(matches!(forged, LightError::Certificate(_)));
    let early = client.clone().advance(good.clone(), Timestamp(now.0 - 60_000)).unwrap_err();
    assert!(matches!(early, LightError::Future));
    let late = client.clone().advance(good.clone(), now.plus_ms(8 * DAY)).unwrap_err();
    assert!(matches!(late, LightError::Old));
    client.clone().advance(good, now).unwrap();
}

#[test]
fn a_client_takes_no_header_of_validators_that_do_not_follow() {
    let (chain, client) = followed();
    // Four others with keys of their own, who sign what they like.
    let set = (11..=14).map(|n| arknet_chain::Validator {
        operator: address(n),
        key: consensus_key(n).public(),
        power: 1,
    });
    let set = ValidatorSet::new(set.collect()).unwrap();
    for height in [4, 9] {
        let mut header = chain.headers[2].clone();
        (header.height, header.time) = (height, header.time.plus_ms(1_000));
        (header.validators, header.next_validators) = (set.hash(), set.hash());
        let certificate = chain.certificate(&set, height, header.id());
        assert_eq!(certificate.verify(&network(), &set), Ok(()));
        let block = LightBlock {
            header,
            certificate,
            validators: set.clone(),
            next_validators: set.clone(),
        };
        let refused = client.clone().advance(block, chain.now()).unwrap_err();
        assert!(matches!(refused, LightError::Validators), "{height}");
    }
}

#[test]
fn a_client_follows_a_changing_set_and_skips_as_long_as_a_third_is_known() {
    let (mut chain, mut client) = followed();
    let far_behind = client.clone();
    join(&mut chain, 5, 500_000);
    let voters = chain.validators();
    chain.block(vec![]);
    // The old set does not vote any more: said with it, the header is refused.
    let stale = LightBlock { validators: chain_set(&[1, 2, 3, 4]), ..tip(&chain, voters.clone()) };
    assert!(client.clone().advance(stale, chain.now()).is_err());
    client.advance(tip(&chain, voters), chain.now()).unwrap();
    assert_eq!(client.height(), 5, "one block was left out");
    // Now others join, so many that those who were known signed too little of it.
    for n in 6..=9 {
        join(&mut chain, n, 900_000);
    }
    for n in 1..=4 {
        let amount = Atoms(200_000 * ARK);
        let withdraw = StakeOp::Withdraw { role: Role::Validator, node: address(n), amount };
        chain.act(n, arknet_chain::Action::Stake(withdraw)).unwrap();
    }
    let voters = chain.validators();
    chain.block(vec![]);
    let block = tip(&chain, voters);
    let mut lost = far_behind;
    let refused = lost.advance(block.clone(), chain.now()).unwrap_err();
    assert!(matches!(refused, LightError::Validators));
    // From a header that somebody trusted says is good it goes on.
    let trusted = LightClient::from_trusted(&block.header, chain.validators()).unwrap();
    assert_eq!(trusted.height(), chain.meta().height);
    assert!(LightClient::from_trusted(&block.header, chain_set(&[1])).is_none());
}

fn chain_set(members: &[u8]) -> ValidatorSet {
    let member = |n: &u8| arknet_chain::Validator {
        operator: address(*n),
        key: consensus_key(*n).public(),
        power: 200_000,
    };
    ValidatorSet::new(members.iter().map(member).collect()).unwrap()
}

#[test]
fn a_vote_of_another_height_is_no_part_of_a_certificate() {
    let (mut chain, client) = followed();
    let voters = chain.validators();
    chain.block(vec![]);
    let mut block = tip(&chain, voters);
    let mut vote = block.certificate.vote(&network(), block.certificate.signatures[0].validator);
    vote.height = 3;
    let key = crate::chain::key_of(&vote.validator);
    let validator = vote.validator;
    let signature = SignedVote::sign(vote, &key).signature;
    block.certificate.signatures[0] = CommitSignature { validator, signature };
    assert!(client.clone().advance(block, chain.now()).is_err());
}
