//! Answers that come in one piece: vectors, scores, tokens and counts.

use arknet_types::{
    FinishReason, Refusal, Reply, Usage,
    limits::{EMBEDDING_DIMENSIONS_MAX, TOKENS_MAX, VALUES_PER_REPLY_MAX},
};
use serde::Deserialize;

use super::{
    answer::failed,
    limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX, SCORE_BYTES_MAX, TEXT_BYTES_MAX, VECTOR_BYTES_MAX},
    read::garbled,
};

/// What an answer holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whole {
    /// OpenAI: so many vectors.
    Embeddings(usize),
    /// Ollama: so many vectors.
    OllamaEmbeddings(usize),
    /// So many scores.
    Scores(usize),
    /// Tokens.
    Tokens,
    /// A text.
    Text,
    /// A number of tokens.
    Count,
}

impl Whole {
    /// Bytes that such an answer may have: what many empty vectors become is larger than what they are.
    pub const fn bytes_max(self) -> usize {
        let max = match self {
            Self::Embeddings(count) | Self::OllamaEmbeddings(count) => {
                count.saturating_mul(VECTOR_BYTES_MAX)
            }
            Self::Scores(count) => count.saturating_mul(SCORE_BYTES_MAX),
            Self::Tokens | Self::Text | Self::Count => BODY_BYTES_MAX,
        };
        let max = max.saturating_add(FRAME_BYTES_MAX);
        if max < BODY_BYTES_MAX { max } else { BODY_BYTES_MAX }
    }

    /// Reads it, with the end.
    pub fn read(self, body: &[u8]) -> Result<Vec<Reply>, Refusal> {
        match self {
            Self::Embeddings(count) => embeddings(body, count),
            Self::OllamaEmbeddings(count) => ollama_embeddings(body, count),
            Self::Scores(count) => scores(body, count),
            Self::Tokens => tokens(body),
            Self::Text => text(body),
            Self::Count => count(body),
        }
    }
}

#[derive(Deserialize, Default)]
struct ToldUsage {
    prompt_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

fn done(prompt_tokens: Option<u64>) -> Reply {
    let prompt_tokens = u32::try_from(prompt_tokens.unwrap_or(0)).unwrap_or(u32::MAX);
    Reply::Done { finish: FinishReason::Stop, usage: Usage { prompt_tokens, ..Usage::default() } }
}

/// Brings a vector to length one, as replies have them.
fn unit(mut values: Vec<f32>) -> Result<Vec<f32>, Refusal> {
    if values.is_empty() || values.len() > EMBEDDING_DIMENSIONS_MAX {
        return Err(failed("the upstream's vectors have an impossible size"));
    }
    let length = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() {
        return Err(failed("the upstream's vectors are not finite"));
    }
    // Most send them so already; dividing those again would only lose bits.
    if length > 0.0 && (length - 1.0).abs() > 1e-5 {
        for value in &mut values {
            #[expect(clippy::cast_possible_truncation, reason = "at most one")]
            let scaled = (f64::from(*value) / length) as f32;
            *value = scaled;
        }
    }
    Ok(values)
}

fn vectors(
    list: impl ExactSizeIterator<Item = (usize, Vec<f32>)>,
    count: usize,
    prompt_tokens: Option<u64>,
) -> Result<Vec<Reply>, Refusal> {
    if list.len() != count {
        return Err(failed("the upstream gave another number of vectors than was asked for"));
    }
    let mut found: Vec<Option<Vec<f32>>> = vec![None; count];
    for (index, values) in list {
        let Some(place) = found.get_mut(index).filter(|place| place.is_none()) else {
            return Err(failed("the upstream gave a vector twice"));
        };
        *place = Some(unit(values)?);
    }
    let replies = found.into_iter().flatten().zip(0..);
    let mut replies: Vec<_> =
        replies.map(|(values, index)| Reply::Embedding { index, values }).collect();
    replies.push(done(prompt_tokens));
    Ok(replies)
}

fn embeddings(body: &[u8], count: usize) -> Result<Vec<Reply>, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        data: Vec<One>,
        usage: Option<ToldUsage>,
    }
    #[derive(Deserialize)]
    struct One {
        index: usize,
        embedding: Vec<f32>,
    }
    let body: Body = serde_json::from_slice(body).map_err(garbled)?;
    let usage = body.usage.unwrap_or_default();
    let list = body.data.into_iter().map(|one| (one.index, one.embedding));
    vectors(list, count, usage.prompt_tokens.or(usage.total_tokens))
}

fn ollama_embeddings(body: &[u8], count: usize) -> Result<Vec<Reply>, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        embeddings: Vec<Vec<f32>>,
        prompt_eval_count: Option<u64>,
    }
    let body: Body = serde_json::from_slice(body).map_err(garbled)?;
    vectors(body.embeddings.into_iter().enumerate(), count, body.prompt_eval_count)
}

fn scores(body: &[u8], count: usize) -> Result<Vec<Reply>, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        results: Vec<One>,
        usage: Option<ToldUsage>,
    }
    #[derive(Deserialize)]
    struct One {
        index: usize,
        #[serde(alias = "score")]
        relevance_score: f32,
    }
    let body: Body = serde_json::from_slice(body).map_err(garbled)?;
    let mut found = vec![None; count];
    for One { index, relevance_score } in body.results {
        let Some(place) = found.get_mut(index).filter(|place| place.is_none()) else {
            return Err(failed("the upstream ranked a document twice"));
        };
        if !relevance_score.is_finite() {
            return Err(failed("the upstream's scores are not finite"));
        }
        *place = Some(relevance_score);
    }
    let Some(scores) = found.into_iter().collect::<Option<Vec<f32>>>() else {
        return Err(failed("the upstream left a document out"));
    };
    let mut replies: Vec<_> =
        scores.chunks(VALUES_PER_REPLY_MAX).map(|some| Reply::Scores(some.to_vec())).collect();
    let usage = body.usage.unwrap_or_default();
    replies.push(done(usage.prompt_tokens.or(usage.total_tokens)));
    Ok(replies)
}

fn tokens(body: &[u8]) -> Result<Vec<Reply>, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        tokens: Vec<u32>,
    }
    let body: Body = serde_json::from_slice(body).map_err(garbled)?;
    if body.tokens.len() > TOKENS_MAX {
        return Err(failed("the upstream made too many tokens"));
    }
    let some = body.tokens.chunks(VALUES_PER_REPLY_MAX);
    let mut replies: Vec<_> = some.map(|some| Reply::Tokens(some.to_vec())).collect();
    replies.push(done(None));
    Ok(replies)
}

fn text(body: &[u8]) -> Result<Vec<Reply>, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(alias = "prompt", alias = "text")]
        content: String,
    }
    let body: Body = serde_json::from_slice(body).map_err(garbled)?;
    let mut rest = body.content.as_str();
    let mut replies = vec![];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(TEXT_BYTES_MAX));
        replies.push(Reply::Text { text: piece.to_owned(), tokens: 0 });
        rest = after;
    }
    replies.push(done(None));
    Ok(replies)
}

fn count(body: &[u8]) -> Result<Vec<Reply>, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(alias = "count")]
        input_tokens: u64,
    }
    let body: Body = serde_json::from_slice(body).map_err(garbled)?;
    Ok(vec![done(Some(body.input_tokens))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(reply: &Reply) -> Vec<f32> {
        match reply {
            Reply::Embedding { values, .. } | Reply::Scores(values) => values.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn vectors_come_in_order_and_with_length_one() {
        let body = br#"{"data":[{"index":1,"embedding":[3,4]},{"index":0,"embedding":[0,0]}],
            "usage":{"prompt_tokens":5,"total_tokens":5}}"#;
        let replies = Whole::Embeddings(2).read(body).unwrap();
        assert_eq!(floats(&replies[0]), [0.0, 0.0]);
        assert_eq!(floats(&replies[1]), [0.6, 0.8]);
        assert_eq!(replies[2], done(Some(5)));
        let body = br#"{"embeddings":[[1.0]],"prompt_eval_count":2}"#;
        assert_eq!(Whole::OllamaEmbeddings(1).read(body).unwrap().len(), 2);
    }

    #[test]
    fn scores_come_in_the_order_of_the_documents() {
        let body = br#"{"results":[{"index":1,"relevance_score":0.5},{"index":0,"score":-2}]}"#;
        assert_eq!(floats(&Whole::Scores(2).read(body).unwrap()[0]), [-2.0, 0.5]);
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        for (whole, body) in [
            (Whole::Embeddings(1), r#"{"data":[]}"#),
            (Whole::Embeddings(1), r#"{"data":[{"index":1,"embedding":[1]}]}"#),
            (Whole::Embeddings(1), r#"{"data":[{"index":0,"embedding":[]}]}"#),
            (Whole::Embeddings(1), r#"{"data":[{"index":0,"embedding":[1e39]}]}"#),
            (
                Whole::Embeddings(2),
                r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#,
            ),
            (Whole::OllamaEmbeddings(2), r#"{"embeddings":[[1]]}"#),
            (Whole::Scores(2), r#"{"results":[{"index":0,"relevance_score":1}]}"#),
            (Whole::Scores(1), r#"{"results":[{"index":0,"relevance_score":1e39}]}"#),
            (Whole::Scores(1), r#"{"results":[{"index":7,"relevance_score":1}]}"#),
            (Whole::Tokens, r#"{"tokens":[-1]}"#),
            (Whole::Text, r#"{"content":"\ud800"}"#),
            (Whole::Count, r#"{"input_tokens":"many"}"#),
            (Whole::Count, ""),
        ] {
            assert!(whole.read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
