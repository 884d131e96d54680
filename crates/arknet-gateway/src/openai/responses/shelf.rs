use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arknet_types::Message;
use bytes::Bytes;

use super::items::Item;
use crate::Limits;

/// Answers that others can go on from, in memory alone. The oldest make room for new ones; each can
/// be seen by whom it belongs to, and for a while.
pub(crate) struct Shelf {
    entries_max: usize,
    bytes_max: usize,
    age_max: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<String, Entry>,
    /// Ids by age, oldest first. Those of deleted answers stay until their turn.
    order: VecDeque<(Instant, String)>,
    bytes: usize,
}

struct Entry {
    owner: u64,
    at: Instant,
    bytes: usize,
    kept: Kept,
}

/// What is kept of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// The conversation up to and with this answer, without what set the scene.
    pub(crate) messages: Arc<[Message]>,
    /// The items of this answer, each in its place.
    pub(crate) items: Arc<[Item]>,
    /// The answer as it was given.
    pub(crate) json: Bytes,
}

impl Shelf {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            entries_max: limits.stored_responses_max,
            bytes_max: limits.stored_bytes_max,
            age_max: Duration::from_millis(limits.stored_ms_max),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an answer, if it is not too large to keep at all.
    pub(crate) fn put(&self, now: Instant, owner: u64, id: String, kept: Kept) {
        let bytes = size(&kept) + 2 * id.len() + size_of::<Entry>();
        if bytes > self.bytes_max || self.entries_max == 0 {
            return;
        }
        let mut state = self.state();
        state.bytes += bytes;
        state.order.push_back((now, id.clone()));
        state.entries.insert(id, Entry { owner, at: now, bytes, kept });
        let (entries_max, bytes_max, age_max) = (self.entries_max, self.bytes_max, self.age_max);
        // Deleted answers hold their place in the queue, which is bounded too.
        while let Some((at, _)) = state.order.front() {
            let old = now.saturating_duration_since(*at) > age_max;
            if !old && state.order.len() <= entries_max && state.bytes <= bytes_max {
                break;
            }
            let Some((_, id)) = state.order.pop_front() else { break };
            state.drop_entry(&id);
        }
    }

    pub(crate) fn find(&self, now: Instant, owner: u64, id: &str) -> Option<Kept> {
        let state = self.state();
        let entry = state.entries.get(id)?;
        let fresh = now.saturating_duration_since(entry.at) <= self.age_max;
        (entry.owner == owner && fresh).then(|| entry.kept.clone())
    }

    /// Forgets an answer. Tells whether there was one.
    pub(crate) fn forget(&self, now: Instant, owner: u64, id: &str) -> bool {
        if self.find(now, owner, id).is_none() {
            return false;
        }
        self.state().drop_entry(id);
        true
    }
}

impl State {
    fn drop_entry(&mut self, id: &str) {
        if let Some(entry) = self.entries.remove(id) {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }
}

fn size(kept: &Kept) -> usize {
    let message = |message: &Message| {
        let parts = message.parts.iter().map(|part| match part {
            arknet_types::Part::Text(text) => text.len() + size_of_val(part),
            arknet_types::Part::Image(image) => image.bytes.len() + size_of_val(part),
        });
        let calls = message
            .tool_calls
            .iter()
            .map(|call| size_of_val(call) + call.id.len() + call.name.len() + call.arguments.len());
        let rest = message.reasoning.as_ref().map_or(0, String::len)
            + message.tool_call_id.as_ref().map_or(0, String::len);
        size_of_val(message) + parts.sum::<usize>() + calls.sum::<usize>() + rest
    };
    let items = kept.items.iter().map(|item| size_of_val(item) + item.bytes());
    kept.json.len() + items.sum::<usize>() + kept.messages.iter().map(message).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use arknet_types::Role;

    use super::*;

    fn shelf(entries: usize, bytes: usize, age_ms: u64) -> Shelf {
        Shelf::new(&Limits {
            stored_responses_max: entries,
            stored_bytes_max: bytes,
            stored_ms_max: age_ms,
            ..Limits::default()
        })
    }

    fn kept(text: &str) -> Kept {
        let messages = Arc::from([Message::new(Role::User, text)]);
        Kept { messages, items: Arc::from([]), json: Bytes::from_static(b"{}") }
    }

    #[test]
    fn each_sees_its_own() {
        let (shelf, now) = (shelf(9, 9999, 9), Instant::now());
        shelf.put(now, 1, "a".into(), kept("x"));
        assert!(shelf.find(now, 1, "a").is_some());
        assert!(shelf.find(now, 2, "a").is_none() && shelf.find(now, 1, "b").is_none());
        assert!(!shelf.forget(now, 2, "a") && shelf.forget(now, 1, "a"));
        assert!(!shelf.forget(now, 1, "a") && shelf.find(now, 1, "a").is_none());
    }

    #[test]
    fn the_oldest_make_room() {
        let now = Instant::now();
        let by_count = shelf(2, 99_999, 9);
        for id in ["a", "b", "c"] {
            by_count.put(now, 1, id.into(), kept("x"));
        }
        assert!(by_count.find(now, 1, "a").is_none() && by_count.find(now, 1, "b").is_some());
        let long = "x".repeat(1000);
        let by_bytes = shelf(9, 3000, 9);
        for id in ["a", "b", "c"] {
            by_bytes.put(now, 1, id.into(), kept(&long));
            assert!(by_bytes.state().bytes <= 3000);
        }
        assert!(by_bytes.find(now, 1, "a").is_none() && by_bytes.find(now, 1, "c").is_some());
        by_bytes.put(now, 1, "d".into(), kept(&"x".repeat(3000)));
        assert!(by_bytes.find(now, 1, "d").is_none() && by_bytes.find(now, 1, "c").is_some());
    }

    #[test]
    fn what_is_old_is_gone() {
        let (shelf, now) = (shelf(9, 9999, 10), Instant::now());
        shelf.put(now, 1, "a".into(), kept("x"));
        let later = now + Duration::from_millis(11);
        assert!(shelf.find(now + Duration::from_millis(10), 1, "a").is_some());
        assert!(shelf.find(later, 1, "a").is_none());
        shelf.put(later, 1, "b".into(), kept("x"));
        assert_eq!(shelf.state().entries.len(), 1);
    }

    #[test]
    fn deleting_leaves_nothing_behind_for_ever() {
        let (shelf, now) = (shelf(4, 99_999, 10), Instant::now());
        for round in 0..100 {
            let id = round.to_string();
            shelf.put(now, 1, id.clone(), kept("x"));
            assert!(shelf.forget(now, 1, &id));
        }
        let state = shelf.state();
        assert!(state.order.len() <= 5 && state.bytes == 0 && state.entries.is_empty());
    }
}
