use arknet_engine::{
    LlamaOptions, LlamaProvider, LoadError, embedded_model, gguf::GgufError, survey, survey_with,
};
use arknet_provider::Provider;
use arknet_types::{Capabilities, Profile};

use crate::model::{name, options};

fn load_error(bytes: &[u8]) -> LoadError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    LlamaProvider::open(LlamaOptions { path, ..options() }).unwrap_err()
}

#[test]
fn what_is_served_is_said() {
    let provider = LlamaProvider::open(options()).unwrap();
    let models = provider.models();
    let [model] = &**models.borrow() else {
        panic!("one model");
    };
    assert_eq!(model.name, name());
    assert_eq!(model.digest, Some(embedded_model().sha256));
    assert_eq!((model.context_tokens, model.slots), (256, 2));
    let can = Capabilities::GENERATE.with(Capabilities::EMBED).with(Capabilities::TOKENIZE);
    assert!(model.capabilities.contains(can.with(Capabilities::TOOLS)));
    assert!(!model.capabilities.contains(Capabilities::EXACT));
    let details = &model.details;
    assert_eq!(details.architecture.as_deref(), Some("qwen3"));
    assert_eq!(details.file_bytes, Some(embedded_model().bytes.len() as u64));
    assert!(details.template.is_some() && details.quantization.is_some());
    assert!(details.build_class.as_ref().unwrap().starts_with("llama.cpp-"));
    assert_eq!(survey(&options()).unwrap().info, *model);
}

#[test]
fn nothing_needs_to_be_chosen() {
    let model = embedded_model();
    let options = LlamaOptions::new(name(), model.sha256, crate::model::file());
    let provider = LlamaProvider::open(options).unwrap();
    let info = arknet_engine::gguf::GgufInfo::parse(model.bytes, model.bytes.len() as u64).unwrap();
    assert_eq!(provider.info().context_tokens, info.context_tokens.min(8192));
    assert!(provider.info().slots >= 1);
}

#[test]
fn what_a_survey_says_can_be_asked_for() {
    let options = LlamaOptions::new(name(), embedded_model().sha256, crate::model::file());
    let first = survey_with(&options, 1 << 30).unwrap();
    assert!(first.memory_bytes < 1 << 30 && first.weights_bytes < first.memory_bytes);
    let pinned = first.pin(&options);
    let second = survey_with(&pinned, 64 << 30).unwrap();
    assert_eq!((&second.info, second.memory_bytes), (&first.info, first.memory_bytes));
    let exact = LlamaOptions { profile: Profile::Exact, ..options };
    let exact = survey_with(&exact, 1 << 30).unwrap();
    assert!(exact.info.capabilities.contains(Capabilities::EXACT));
}

#[test]
fn files_that_are_no_models_are_refused_before_native_code_sees_them() {
    let bytes = embedded_model().bytes;
    let cause = |bytes: &[u8]| match load_error(bytes) {
        LoadError::Gguf { cause, .. } => cause,
        error => panic!("{error}"),
    };
    assert!(matches!(cause(b"no model"), GgufError::NotGguf));
    let truncated = cause(&bytes[..bytes.len() / 2]);
    assert!(matches!(truncated, GgufError::Truncated { .. }));
    let missing =
        LlamaProvider::open(LlamaOptions { path: "/nonexistent/model.gguf".into(), ..options() });
    let words = missing.unwrap_err().to_string();
    assert!(words.contains("/nonexistent/model.gguf"), "{words}");
}

#[test]
fn an_architecture_nobody_knows_is_refused_by_name() {
    let mut bytes = embedded_model().bytes.to_vec();
    let find = |bytes: &[u8], from| {
        let rest = bytes[from..].windows(5).position(|w| w == b"qwen3");
        rest.map(|at| from + at)
    };
    let mut from = 0;
    while let Some(at) = find(&bytes, from) {
        bytes[at..at + 5].copy_from_slice(b"xwen3");
        from = at + 5;
    }
    let error = load_error(&bytes);
    assert!(matches!(&error, LoadError::Refused { architecture, .. } if architecture == "xwen3"));
    assert!(error.to_string().contains("model.gguf"), "{error}");
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_numbers() {
    let error = LlamaProvider::open(LlamaOptions { memory_bytes_max: Some(1 << 20), ..options() })
        .unwrap_err();
    let LoadError::Memory { needed_mib, available_mib, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(available_mib, 1);
    assert!(needed_mib > 1);
}
