//! A short run for every change; `make fuzz` runs a million cases of each.

#[test]
fn no_decoder_panics() {
    for decoder in arknet_fuzz::decoders().unwrap() {
        for input in &decoder.corpus {
            assert!((decoder.accepts)(input), "{} refuses a good input", decoder.name);
        }
        let outcome = arknet_fuzz::run(&decoder, 5_000, 7).unwrap();
        assert!(outcome.accepted > 0 && outcome.refused > 0, "{}: {outcome:?}", decoder.name);
    }
}
