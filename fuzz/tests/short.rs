//! A short run for every change; `make fuzz` runs a million cases of each, and fewer of the slow ones.

#[test]
fn no_decoder_panics() {
    for decoder in arknet_fuzz::decoders().unwrap() {
        for input in &decoder.corpus {
            let text = String::from_utf8_lossy(input);
            assert!((decoder.accepts)(input), "{} refuses {text}", decoder.name);
        }
        let outcome = arknet_fuzz::run(&decoder, decoder.share(5_000), 7).unwrap();
        assert!(outcome.accepted > 0 && outcome.refused > 0, "{}: {outcome:?}", decoder.name);
    }
}
