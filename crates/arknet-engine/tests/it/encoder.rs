//! Models that read a text in one step: a random one of BERT's kind, made here.

use std::path::Path;

use arknet_engine::{LlamaOptions, LlamaProvider, LoadError};
use arknet_provider::Provider;
use arknet_types::{Capabilities, InferRequest, Input, ModelDigest, ModelName, RefusalCode, Reply};

use crate::{
    gguf::Writer,
    model::{ask, name},
};

const EMBEDDING: u64 = 32;
const INNER: u64 = 64;
const POSITIONS: u64 = 64;
const WORDS: [&str; 12] = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "\u{2581}cat",
    "\u{2581}dog",
    "\u{2581}stone",
    "\u{2581}the",
    "s",
    "\u{2581}sea",
    "\u{2581}a",
];

/// One layer, four kinds of pooling.
fn model(path: &Path, pooling: u32) {
    let mut w = Writer::default();
    w.word("general.architecture", "bert");
    w.number("bert.context_length", u32::try_from(POSITIONS).unwrap());
    w.number("bert.embedding_length", u32::try_from(EMBEDDING).unwrap());
    w.number("bert.feed_forward_length", u32::try_from(INNER).unwrap());
    w.number("bert.block_count", 1);
    w.number("bert.attention.head_count", 2);
    w.key("bert.attention.layer_norm_epsilon", 6, &1e-12_f32.to_le_bytes());
    w.key("bert.attention.causal", 7, &[0]);
    w.number("bert.pooling_type", pooling);
    w.number("tokenizer.ggml.token_type_count", 2);
    w.word("tokenizer.ggml.model", "bert");
    let mut words = Vec::new();
    WORDS.iter().for_each(|word| Writer::text(&mut words, word));
    w.list("tokenizer.ggml.tokens", 8, WORDS.len(), &words);
    let kinds = [3, 2, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1].map(i32::to_le_bytes).concat();
    w.list("tokenizer.ggml.token_type", 5, WORDS.len(), &kinds);
    for (key, token) in [("padding", 0), ("unknown", 1), ("cls", 2), ("seperator", 3), ("mask", 4)]
    {
        w.number(&format!("tokenizer.ggml.{key}_token_id"), token);
    }
    w.number("tokenizer.ggml.bos_token_id", 2);
    w.number("tokenizer.ggml.eos_token_id", 3);
    w.tensor("token_embd.weight", &[EMBEDDING, WORDS.len() as u64], 0.0);
    w.tensor("token_types.weight", &[EMBEDDING, 2], 0.0);
    w.tensor("position_embd.weight", &[EMBEDDING, POSITIONS], 0.0);
    for norm in ["token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"] {
        w.tensor(&format!("{norm}.weight"), &[EMBEDDING], 1.0);
        w.tensor(&format!("{norm}.bias"), &[EMBEDDING], 0.0);
    }
    for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
        w.tensor(&format!("blk.0.{part}.weight"), &[EMBEDDING, EMBEDDING], 0.0);
        w.tensor(&format!("blk.0.{part}.bias"), &[EMBEDDING], 0.0);
    }
    w.tensor("blk.0.ffn_up.weight", &[EMBEDDING, INNER], 0.0);
    w.tensor("blk.0.ffn_up.bias", &[INNER], 0.0);
    w.tensor("blk.0.ffn_down.weight", &[INNER, EMBEDDING], 0.0);
    w.tensor("blk.0.ffn_down.bias", &[EMBEDDING], 0.0);
    if pooling == 4 {
        w.tensor("cls.weight", &[EMBEDDING, EMBEDDING], 0.0);
        w.tensor("cls.bias", &[EMBEDDING], 0.0);
        w.tensor("cls.output.weight", &[EMBEDDING, 1], 0.0);
        w.tensor("cls.output.bias", &[1], 0.0);
    }
    w.write(path);
}

fn options(folder: &tempfile::TempDir, pooling: u32) -> LlamaOptions {
    let path = folder.path().join("encoder.gguf");
    model(&path, pooling);
    let name = ModelName::new(name().as_str()).unwrap();
    LlamaOptions { threads: Some(1), ..LlamaOptions::new(name, ModelDigest([1; 32]), path) }
}

fn open(pooling: u32) -> LlamaProvider {
    LlamaProvider::open(options(&tempfile::tempdir().unwrap(), pooling)).unwrap()
}

fn request(input: Input) -> InferRequest {
    InferRequest::new(name(), input)
}

#[tokio::test]
async fn an_encoder_embeds_and_does_nothing_else() {
    for pooling in [1, 2, 3] {
        let provider = open(pooling);
        let can = provider.info().capabilities;
        assert!(can.contains(Capabilities::EMBED) && !can.contains(Capabilities::GENERATE));
        let texts = ["the cat", "a stone", "the cat", "the dogs the dogs"].map(String::from);
        let answer = ask(&provider, request(Input::Embed(texts.to_vec()))).await.unwrap();
        let vectors: Vec<&Vec<f32>> = answer
            .others
            .iter()
            .map(|reply| match reply {
                Reply::Embedding { values, .. } => values,
                other => panic!("{other:?}"),
            })
            .collect();
        let cosine = |a: usize, b: usize| -> f32 {
            vectors[a].iter().zip(vectors[b]).map(|(a, b)| a * b).sum()
        };
        assert_eq!(vectors[0].len(), 32);
        assert!((cosine(0, 2) - 1.0).abs() < 1e-4 && cosine(0, 1) < 0.999, "{pooling}");
        let refusal = ask(&provider, request(Input::Text("the".into()))).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Unsupported);
        let long = request(Input::Embed(vec!["the cat ".repeat(60)]));
        let refusal = ask(&provider, long).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ContextOverflow);
    }
}

#[tokio::test]
async fn many_texts_of_many_requests_are_read_together() {
    let provider = open(1);
    let texts = |n: usize| vec!["the cat the dogs".repeat(n % 5 + 1); 30];
    let running: Vec<_> =
        (0..4).map(|n| provider.generate(request(Input::Embed(texts(n)))).unwrap()).collect();
    for generation in running {
        let answer = crate::model::read(generation).await.unwrap();
        assert_eq!(answer.others.len(), 30);
    }
}

#[tokio::test]
async fn a_ranking_model_ranks() {
    let provider = open(4);
    assert!(!provider.info().capabilities.contains(Capabilities::EMBED));
    let documents = ["the stone", "a cat", "the stone"].map(String::from).to_vec();
    let answer = ask(&provider, request(Input::Rerank { query: "cat".into(), documents })).await;
    let answer = answer.unwrap();
    let [Reply::Scores(scores)] = answer.others.as_slice() else {
        panic!("{:?}", answer.others);
    };
    assert!(scores.len() == 3 && scores.iter().all(|score| score.is_finite()));
    assert!((scores[0] - scores[2]).abs() < 1e-4 && (scores[0] - scores[1]).abs() > 1e-4);
}

#[test]
fn more_positions_than_were_learned_are_refused_before_native_code() {
    let folder = tempfile::tempdir().unwrap();
    let options = LlamaOptions { context_tokens: Some(100), ..options(&folder, 1) };
    let error = LlamaProvider::open(options).unwrap_err();
    assert!(matches!(error, LoadError::Positions { asked_tokens: 100, trained_tokens: 64, .. }));
}
