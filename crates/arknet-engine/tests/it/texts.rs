//! Vectors, ranks and tokens.

use arknet_types::{FinishReason, InferRequest, Input, RefusalCode, Reply};

use crate::model::{QUESTION, ask, chat, greedy, name, open};
use arknet_provider::Provider;

fn plain(input: Input) -> InferRequest {
    InferRequest::new(name(), input)
}

async fn embed(texts: &[&str]) -> Vec<Vec<f32>> {
    let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
    let answer = ask(&open(), plain(Input::Embed(texts.clone()))).await.unwrap();
    assert_eq!(answer.finish, FinishReason::Stop);
    assert!(answer.usage.prompt_tokens > 0 && answer.usage.completion_tokens == 0);
    let vectors: Vec<Vec<f32>> = answer
        .others
        .into_iter()
        .enumerate()
        .map(|(n, reply)| match reply {
            Reply::Embedding { index, values } => {
                assert_eq!(index as usize, n);
                values
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(vectors.len(), texts.len());
    vectors
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn vectors_have_length_one_and_tell_texts_apart() {
    let long = "A much longer text that takes more than one step. ".repeat(6);
    let vectors = embed(&["cats", "a stone", &long, "cats"]).await;
    for vector in &vectors {
        assert_eq!(vector.len(), 256);
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-5);
    }
    assert!((cosine(&vectors[0], &vectors[3]) - 1.0).abs() < 1e-4);
    assert!(cosine(&vectors[0], &vectors[1]) < 0.999);
    assert!(cosine(&vectors[0], &vectors[2]) < 0.999);
}

#[tokio::test]
async fn vectors_do_not_disturb_answers() {
    let provider = open();
    let alone = ask(&provider, chat(QUESTION)).await.unwrap();
    let texts = plain(Input::Embed(vec![QUESTION.into(); 20]));
    let (first, second) = (provider.generate(texts).unwrap(), provider.generate(chat(QUESTION)));
    let (vectors, answer) =
        tokio::join!(crate::model::read(first), crate::model::read(second.unwrap()));
    assert_eq!(vectors.unwrap().others.len(), 20);
    assert_eq!(answer.unwrap().content(), alone.content());
    assert_eq!(ask(&provider, chat(QUESTION)).await.unwrap().content(), alone.content());
}

#[tokio::test]
async fn texts_without_or_with_too_many_tokens_have_no_vector() {
    let provider = open();
    let long = "\u{2603}".repeat(2000);
    let refusal = ask(&provider, plain(Input::Embed(vec!["a".into(), long]))).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ContextOverflow);
    assert!(refusal.detail.contains("256") && refusal.detail.contains('1'), "{refusal}");
    let refusal = ask(&provider, plain(Input::Embed(vec![String::new()]))).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
}

#[tokio::test]
async fn documents_are_scored_in_order() {
    let documents = ["stone", "What is arknet?", "ship"].map(String::from).to_vec();
    let request = plain(Input::Rerank { query: "What is arknet?".into(), documents });
    let answer = ask(&open(), request).await.unwrap();
    let [Reply::Scores(scores)] = answer.others.as_slice() else {
        panic!("{:?}", answer.others);
    };
    assert_eq!(scores.len(), 3);
    assert!(scores[1] > scores[0] && scores[1] > scores[2] && scores[1] > 0.999, "{scores:?}");
}

#[tokio::test]
async fn tokens_come_and_go() {
    let provider = open();
    let text = "The cat <|im_end|> sat.\n\u{20ac}";
    let input = Input::Tokenize { text: text.into(), add_special: true };
    let answer = ask(&provider, plain(input)).await.unwrap();
    let [Reply::Tokens(tokens)] = answer.others.as_slice() else {
        panic!("{:?}", answer.others);
    };
    assert_eq!(tokens.len(), answer.usage.prompt_tokens as usize);
    // What looks like a control token is text.
    assert!(tokens.len() > 8);
    let back = ask(&provider, plain(Input::Detokenize(tokens.clone()))).await.unwrap();
    assert_eq!(back.text, text);
    let refusal = ask(&provider, plain(Input::Detokenize(vec![u32::MAX]))).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
}

#[tokio::test]
async fn many_tokens_reach_a_reader_who_takes_his_time() {
    let provider = open();
    let input = Input::Tokenize { text: "ab ".repeat(100_000), add_special: false };
    let slow = provider.generate(plain(input)).unwrap();
    assert!(!ask(&provider, chat(QUESTION)).await.unwrap().text.is_empty());
    let answer = crate::model::read(slow).await.unwrap();
    let count = |reply: &Reply| match reply {
        Reply::Tokens(tokens) => tokens.len(),
        _ => 0,
    };
    let tokens: usize = answer.others.iter().map(count).sum();
    assert!(tokens >= 100_000);
    assert_eq!(tokens, answer.usage.prompt_tokens as usize);
}

#[tokio::test]
async fn counting_gives_what_answering_takes() {
    let provider = open();
    let request = chat(QUESTION);
    let Input::Chat(conversation) = request.input.clone() else {
        panic!("a chat");
    };
    let counted = ask(&provider, plain(Input::Count(conversation))).await.unwrap();
    let answered = ask(&provider, greedy(request.input)).await.unwrap();
    assert_eq!(counted.usage.prompt_tokens, answered.usage.prompt_tokens);
    assert_eq!(counted.usage.completion_tokens, 0);
}
