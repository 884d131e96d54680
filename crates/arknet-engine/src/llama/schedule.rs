//! How much of whose input goes into the next step.

/// Tokens in one step, at most.
pub(crate) const STEP_TOKENS_MAX: usize = 512;
/// Tokens in one step that gives a vector for each of them, at most. The library gives logits for
/// each of them too, which is what bounds it.
pub(crate) const VECTOR_STEP_TOKENS_MAX: usize = 64;
/// Tokens of input in a step that also brings others their next token. A long input then delays
/// everybody else's tokens by the time of this many, not by its whole length; smaller steps would
/// read the weights more often for the same input.
const INPUT_BESIDE_OUTPUT_MAX: usize = 128;

/// Divides a step between the inputs that still have to be read, given how much each has left and
/// how many sequences get a next token in the same step. Everybody gets the same unless that is more
/// than they have, so a short question is not stuck behind a book.
pub(crate) fn share(inputs_left: &[usize], outputs: usize) -> Vec<usize> {
    let mut budget = STEP_TOKENS_MAX.saturating_sub(outputs);
    if outputs > 0 {
        budget = budget.min(INPUT_BESIDE_OUTPUT_MAX);
    }
    let mut order: Vec<usize> = (0..inputs_left.len()).collect();
    order.sort_by_key(|index| inputs_left[*index]);
    let mut shares = vec![0; inputs_left.len()];
    for (done, index) in order.iter().enumerate() {
        let even = budget.div_ceil(order.len() - done);
        shares[*index] = inputs_left[*index].min(even);
        budget -= shares[*index];
    }
    shares
}

/// Tokens of a picture for a step of its own, given how many it has left and how many sequences wait
/// meanwhile for their next token.
pub(crate) fn picture_share(left: usize, outputs: usize, is_read_whole: bool) -> usize {
    match outputs {
        _ if is_read_whole => left,
        0 => left.min(STEP_TOKENS_MAX),
        _ => left.min(INPUT_BESIDE_OUTPUT_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_short_input_passes_a_long_one() {
        assert_eq!(share(&[8000, 20], 0), [492, 20]);
        assert_eq!(share(&[8000, 20], 3), [108, 20]);
        assert_eq!(share(&[8000], 0), [512]);
        assert_eq!(share(&[8000, 8000], 1), [64, 64]);
        assert_eq!(share(&[], 4), [0; 0]);
        assert_eq!(share(&[5], 512), [0]);
    }

    proptest! {
        #[test]
        fn a_step_is_full_and_fair(
            left in prop::collection::vec(0..2000_usize, 0..20),
            outputs in 0..300_usize,
        ) {
            let shares = share(&left, outputs);
            let budget = if outputs == 0 { STEP_TOKENS_MAX } else {
                (STEP_TOKENS_MAX - outputs).min(INPUT_BESIDE_OUTPUT_MAX)
            };
            prop_assert_eq!(shares.iter().sum::<usize>(), budget.min(left.iter().sum()));
            prop_assert!(shares.iter().zip(&left).all(|(s, l)| s <= l));
            // Who has something left over got no less than anybody else, give or take the rest of
            // a division.
            let most = shares.iter().max().copied().unwrap_or(0);
            prop_assert!(shares.iter().zip(&left).all(|(s, l)| s == l || s + 1 >= most));
        }
    }
}
