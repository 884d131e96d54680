use arknet_chain::{
    Action, Block, BlockError, CertificateError, CommitCertificate, Hash, Header, Ingredients, Key,
    build_block, execute_block, prove, which_hold, which_hold_after,
};
use arknet_types::{Address, Atoms, Timestamp};

use crate::chain::{Chain, QUOTES, SECOND, address, genesis, network};

fn next(chain: &Chain) -> Block {
    build_block(&chain.parent(), chain.ingredients(SECOND, vec![]), QUOTES).unwrap().0.into_block()
}

fn judge(chain: &Chain, block: Block) -> Result<(), BlockError> {
    execute_block(&chain.parent(), &block.verify(which_hold)?, QUOTES).map(|_| ())
}

#[test]
fn a_header_that_differs_in_anything_is_refused() {
    let mut chain = Chain::grown_up();
    chain.block(vec![]);
    type Change = fn(&mut Header);
    let changes: [(&str, Change); 9] = [
        ("network", |h| h.network = arknet_types::NetworkId::new("x").unwrap()),
        ("height", |h| h.height += 1),
        ("parent", |h| h.parent = Hash::ZERO),
        ("base fee", |h| h.base_fee = Atoms(77)),
        ("gas", |h| h.gas_used = 1),
        ("validators", |h| h.validators = Hash::ZERO),
        ("next validators", |h| h.next_validators = Hash::ZERO),
        ("outcomes", |h| h.outcomes = Hash::ZERO),
        ("state root", |h| h.state_root = Hash::ZERO),
    ];
    for (field, change) in changes {
        let mut block = next(&chain);
        assert_eq!(judge(&chain, block.clone()), Ok(()));
        change(&mut block.header);
        assert_eq!(judge(&chain, block), Err(BlockError::Header { field }));
    }
    // What somebody changed on its way is told apart from what was proposed so.
    let changes: [(&str, Change); 3] = [
        ("certificate", |h| h.commit = Hash::ZERO),
        ("evidence", |h| h.evidence = Hash::ZERO),
        ("transactions", |h| h.transactions = Hash::ZERO),
    ];
    for (field, change) in changes {
        let mut block = next(&chain);
        change(&mut block.header);
        assert_eq!(judge(&chain, block), Err(BlockError::Body { field }));
    }
}

#[test]
fn what_is_known_to_be_signed_is_not_checked_again() {
    let mut chain = Chain::grown_up();
    let known = chain.sign(5, Action::Burn { amount: Atoms(1) });
    chain.block(vec![]);
    let new = chain.sign(6, Action::Burn { amount: Atoms(1) });
    let ingredients = chain.ingredients(1_000, vec![known.clone(), new]);
    let (block, executed) = build_block(&chain.parent(), ingredients, QUOTES).unwrap();
    let is_known = |id: &Hash| *id == known.id();
    let at_once = |block: Block| {
        block.execute_knowing(&chain.parent(), QUOTES, is_known, |claims, meanwhile| {
            assert_eq!(claims.len(), 1);
            which_hold_after(claims, meanwhile)
        })
    };
    assert_eq!(at_once(block.clone().into_block()), Ok((block.clone(), executed)));
    let checked = block.clone().into_block().verify_knowing(is_known, |claims| {
        assert_eq!(claims.len(), 1);
        which_hold(claims)
    });
    assert_eq!(checked, Ok(block.clone()));
    // Another signature is another name.
    let mut forged = block.into_block();
    forged.transactions[0].signature.0[0] ^= 1;
    forged.name_body();
    let checked = forged.clone().verify_knowing(is_known, which_hold);
    assert_eq!(checked, Err(BlockError::Signature { index: 0 }));
    let executed = forged.execute_knowing(&chain.parent(), QUOTES, |_| false, which_hold_after);
    assert_eq!(executed, Err(BlockError::Signature { index: 0 }));
}

#[test]
fn time_only_goes_on_and_not_too_far() {
    let mut chain = Chain::grown_up();
    chain.block(vec![]);
    for back in [0, 1] {
        let mut block = next(&chain);
        block.header.time = Timestamp(chain.now().0 - back);
        assert_eq!(judge(&chain, block), Err(BlockError::Time));
    }
    let header = next(&chain).header;
    assert!(header.is_timely(header.time));
    assert!(header.is_timely(Timestamp(header.time.0 - 5_000)));
    assert!(!header.is_timely(Timestamp(header.time.0 - 5_001)));
}

#[test]
fn only_a_validator_proposes() {
    let chain = Chain::grown_up();
    let mut block = next(&chain);
    block.header.proposer = address(9);
    assert_eq!(judge(&chain, block), Err(BlockError::Proposer(address(9))));
}

#[test]
fn a_block_carries_the_certificate_of_its_parent_and_no_other() {
    let mut chain = Chain::grown_up();
    let first = next(&chain);
    let certificate = chain.certificate(&chain.validators(), 1, Hash::ZERO);
    let mut early = Block { commit: Some(certificate), ..first };
    early.name_body();
    assert_eq!(judge(&chain, early), Err(BlockError::Commit));
    chain.block(vec![]);
    chain.block(vec![]);
    let good = next(&chain);
    type Change = fn(&mut Chain, &mut CommitCertificate);
    let commit = BlockError::Commit;
    let changes: [(Change, BlockError); 6] = [
        (|_, c| c.height += 1, commit.clone()),
        (|_, c| c.block = Hash::ZERO, commit),
        (|_, c| c.signatures.swap(0, 1), CertificateError::Order.into()),
        (|_, c| c.signatures[1] = c.signatures[0], CertificateError::Order.into()),
        (
            |_, c| c.signatures.truncate(2),
            CertificateError::Quorum { found: 400_000, total: 800_000 }.into(),
        ),
        (
            |_, c| c.signatures[3].validator = Address([0xff; 20]),
            CertificateError::Stranger(Address([0xff; 20])).into(),
        ),
    ];
    for (change, error) in changes {
        let mut block = good.clone();
        change(&mut chain, block.commit.as_mut().unwrap());
        block.name_body();
        assert_eq!(judge(&chain, block), Err(error));
    }
    let mut block = good.clone();
    block.commit = None;
    block.name_body();
    assert_eq!(judge(&chain, block), Err(BlockError::Commit));
    // A signature of another round, and one of another validator.
    for change in [
        |c: &mut CommitCertificate| c.round = 1,
        |c: &mut CommitCertificate| {
            c.signatures[0].signature = c.signatures[1].signature;
        },
    ] {
        let mut block = good.clone();
        change(block.commit.as_mut().unwrap());
        block.name_body();
        let first = block.commit.as_ref().unwrap().signatures[0].validator;
        let error = CertificateError::Signature(first);
        assert_eq!(judge(&chain, block), Err(error.into()));
    }
    assert_eq!(judge(&chain, good), Ok(()));
}

#[test]
fn a_certificate_from_another_chain_counts_nothing() {
    let mut chain = Chain::grown_up();
    chain.block(vec![]);
    let certificate = chain.commit.clone().unwrap();
    let other = arknet_types::NetworkId::new("arknet-other-1").unwrap();
    assert_eq!(certificate.verify(&network(), &chain.validators()), Ok(()));
    assert!(certificate.verify(&other, &chain.validators()).is_err());
}

#[test]
fn the_state_proves_what_is_in_it_and_what_is_not() {
    let mut chain = Chain::grown_up();
    for _ in 0..3 {
        chain.block(vec![]);
    }
    let root = chain.headers.last().unwrap().state_root;
    let (value, proof) = prove(&chain.state, &Key::Account(address(5)));
    let key = Key::Account(address(5)).bytes();
    assert_eq!(proof.verify(&root, &key, value.as_deref()), Ok(()));
    let forged = value.map(|mut value| {
        value[0] ^= 1;
        value
    });
    assert!(proof.verify(&root, &key, forged.as_deref()).is_err());
    let nobody = Key::Account(Address([9; 20]));
    let (value, proof) = prove(&chain.state, &nobody);
    assert_eq!((value, proof.verify(&root, &nobody.bytes(), None)), (None, Ok(())));
    assert!(proof.verify(&root, &key, None).is_err());
}

#[test]
fn a_block_is_the_same_whoever_executes_it_and_however_often() {
    let mut chain = Chain::new(&genesis(3));
    let list = vec![chain.sign(5, crate::random::every_kind()[0].clone())];
    let ingredients = chain.ingredients(SECOND, list);
    let (a, b) = (
        build_block(&chain.parent(), ingredients.clone(), QUOTES).unwrap(),
        build_block(&chain.parent(), ingredients.clone(), QUOTES).unwrap(),
    );
    assert_eq!(a, b);
    let none: Vec<_> = vec![];
    let other =
        build_block(&chain.parent(), Ingredients { transactions: none, ..ingredients }, QUOTES);
    assert_ne!(other.unwrap().0.header.state_root, a.0.header.state_root);
    chain.block(vec![]);
}
